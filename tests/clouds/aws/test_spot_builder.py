"""Builders on spot capacity: what `bake --spot` asks AWS for, and what an interruption leaves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bakery.errors import BuilderDiedError
from bakery.order import BakeOptions
from clouds import names
from clouds.driver import Wishes
from clouds.errors import CloudError, InvalidError, QuotaError
from tests.clouds.aws.stage import Stage
from tests.clouds.gcp.stage import bake_tiny
from tests.servers.ec2 import internal_error, spot_limit
from tests.servers.ec2_asking import client
from tests.servers.vm import Step, Vm

pytestmark = pytest.mark.server
SPOT = BakeOptions(spot=True)


def bake(stage: Stage) -> None:
    stage.play(lambda: bake_tiny(stage.connect(), stage.home, on_event=stage.events.append, options=SPOT))


def silent(_vm: Vm) -> Iterator[Step]:
    """Boot, and print something now and then."""
    while True:
        yield "working\r\n"
        yield 0.05


def builder(stage: Stage) -> str:
    """Return the name of the only instance."""
    return next(line.split("/")[1].split()[0] for line in stage.left() if line.startswith("instances "))


def asked(stage: Stage, action: str) -> list[dict[str, str]]:
    return [dict(call.params) for call in stage.server.calls if call.action == action]


def test_the_builder_has_one_time_spot_capacity_and_the_test_machine_has_not(stage: Stage) -> None:
    bake(stage)
    assert stage.error is None, stage.told
    builder, test = asked(stage, "RunInstances")
    market = {key: value for key, value in builder.items() if key.startswith("InstanceMarketOptions")}
    assert market == {
        "InstanceMarketOptions.MarketType": "spot",
        "InstanceMarketOptions.SpotOptions.SpotInstanceType": "one-time",
        "InstanceMarketOptions.SpotOptions.InstanceInterruptionBehavior": "terminate",
    }
    assert not [key for key in test if key.startswith("InstanceMarketOptions")]


def test_its_image_is_taken_from_the_running_builder_which_ec2_shuts_down_for_it(stage: Stage) -> None:
    """A one-time spot instance cannot be stopped; tests/servers/test_ec2_spot.py has AWS's refusal."""
    bake(stage)
    assert stage.error is None, stage.told
    [image] = asked(stage, "CreateImage")
    assert image["NoReboot"] == "false"
    assert stage.server.count("StopInstances") == 0
    assert [line.split()[0] for line in stage.left()] == ["images", "snapshots"]


@pytest.mark.parametrize("look", [1, 4])
def test_an_interruption_ends_the_bake_with_its_cause_and_leaves_nothing(stage: Stage, look: int) -> None:
    stage.vms.play = silent
    stage.server.switches.notice_s = 0
    stage.server.fault("GetConsoleOutput", nth=look, error=lambda: stage.server.interrupt(builder(stage)))
    bake(stage)
    assert isinstance(stage.error, BuilderDiedError)
    assert "aws has reclaimed the spot capacity of the builder" in stage.told
    assert "without --spot" in stage.told
    assert stage.server.count("RunInstances") == 1
    assert stage.left() == []


def test_an_interruption_while_the_image_is_created_is_told_as_one(stage: Stage) -> None:
    stage.server.switches.notice_s = 0

    def strike() -> None:
        stage.server.interrupt(builder(stage))
        stage.server.advance(1)

    stage.server.fault("CreateImage", error=strike)
    bake(stage)
    assert isinstance(stage.error, CloudError)
    assert "aws has reclaimed the spot capacity of the builder" in stage.told
    assert stage.left() == []


def test_another_failure_of_a_spot_builder_is_not_taken_for_an_interruption(stage: Stage) -> None:
    stage.vms.play = silent
    stage.server.fault("GetConsoleOutput", nth=3, error=lambda: stage.server.power_off(builder(stage)))
    bake(stage)
    assert isinstance(stage.error, BuilderDiedError)
    assert "reclaimed" not in stage.told
    assert stage.left() == []


@pytest.mark.parametrize(
    ("action", "when"),
    [
        ("RunInstances", "before"),
        ("RunInstances", "after"),
        ("CreateImage", "before"),  # after its effect, the repeated request finds the image by its name, and the bake continues
        ("CancelSpotInstanceRequests", "before"),
        ("CancelSpotInstanceRequests", "after"),
    ],
)
def test_a_bake_that_fails_leaves_neither_builder_nor_request_nor_image(stage: Stage, action: str, when: str) -> None:
    tries = 2 if action.startswith("Cancel") else None  # so that undo can cancel it
    for nth in (1, 2) if tries else (None,):
        stage.server.fault(action, when=when, error=internal_error(), nth=nth)
    bake(stage)
    assert isinstance(stage.error, CloudError), stage.told
    assert "reclaimed" not in stage.told
    stage.server.advance(600)
    stage.collect()
    assert stage.left() == []


def test_the_quota_of_spot_capacity_is_told_and_leaves_nothing(stage: Stage) -> None:
    stage.server.fault("RunInstances", error=spot_limit(), nth=None)
    bake(stage)
    assert isinstance(stage.error, QuotaError)
    assert stage.server.count("RunInstances") == 1
    assert stage.left() == []


def test_an_image_of_an_ordinary_machine_that_runs_is_refused(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud)
    with pytest.raises(InvalidError, match="still on"):
        cloud.snapshot("mine", f"tiny-{names.release()}-9", {"bake": "b"})


def test_only_a_machine_that_was_taken_back_was_reclaimed(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True))
    assert not cloud.was_reclaimed("mine")
    assert not cloud.was_reclaimed("other")
    assert client(stage.server).describe_spot_instance_requests()["SpotInstanceRequests"]
