"""Builders on Google's spot capacity: what `bake --spot` asks for, and what a preemption leaves."""

from __future__ import annotations

from bakery.errors import BuilderDiedError
from bakery.order import BakeOptions
from tests.clouds.gcp.stage import NewStage, Stage, Wire, bake_tiny
from tests.servers.vm import silent


def bake(stage: Stage, wire: Wire | None = None) -> None:
    options = BakeOptions(spot=True)
    stage.play(lambda cloud, home: bake_tiny(cloud, home, on_event=stage.events.append, options=options), wire)


def test_the_builder_alone_uses_spot_capacity_and_google_deletes_it_on_preemption(new_stage: NewStage) -> None:
    stage, made = new_stage(), []

    def strikes(method: str, _nth: int, when: str) -> None:
        if (method, when) == ("instances.insert", "after"):
            things = stage.server.things()
            made.append([thing["scheduling"] for line, thing in things.items() if line.startswith("instances ")][-1])

    bake(stage, Wire(stage.server, strikes))
    assert stage.error is None, stage.told
    assert [one["provisioningModel"] for one in made] == ["SPOT", "STANDARD"]
    assert made[0]["instanceTerminationAction"] == "DELETE"
    assert stage.left() == []


def test_a_preemption_ends_the_bake_with_the_next_step_and_leaves_nothing(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.vms.play = silent
    due = iter([True])

    def strikes(method: str, _nth: int, when: str) -> None:
        [builder, state] = [*stage.there("instances"), "none none"][0].split("/")[-1].split()
        reads = (method, when, state) == ("instances.getSerialPortOutput", "before", "RUNNING")
        if reads and next(due, False):
            stage.server.preempt(builder)

    bake(stage, Wire(stage.server, strikes))
    assert isinstance(stage.error, BuilderDiedError)
    assert "without --spot" in stage.told
    assert stage.left() == []
