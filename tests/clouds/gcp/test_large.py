"""What is larger than a value of metadata is sent over SSH, through a rule that is there for that time alone."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from bakery.bake import Baked, bake
from bakery.events import Event, Note
from bakery.order import BakeOptions
from bakery.recipe.recipe import Step
from bakery.script.render import render
from bakery.script.resolve import Resolution
from clouds.errors import CloudError, DeniedError
from clouds.gcp.instances import SCRIPT
from clouds.gcp.places import places
from clouds.waiter import until
from tests import fake_sftp
from tests.clouds.gcp.stage import Cloud, NewStage, Stage, Wire, bake_large, tiny
from tests.servers.gce.errors import ApiError

pytestmark = pytest.mark.server

METADATA_BYTES = 256 * 1024


def methods(stage: Stage) -> list[str]:
    """Return the requests that make or remove rules and the builder, in order, up to the snapshot."""
    names = [call.method.removeprefix("compute.") for call in stage.server.calls if call.status == 200]
    kept = ("firewalls.insert", "firewalls.delete", "instances.insert", "instances.stop")
    return [name for name in names[: names.index("instances.stop") + 1] if name in kept]


def startup_script(stage: Stage) -> str:
    """Return the script that the first instance was made with."""
    body: Any = next(call.body for call in stage.server.calls if call.method == "compute.instances.insert")
    return str(next(item["value"] for item in body["metadata"]["items"] if item["key"] == SCRIPT))


def bake_padded(cloud: Cloud, home: Path, size_bytes: int) -> Baked:
    """Bake `tiny` with a script of exactly so many bytes."""
    recipe, name = tiny(home, silence_min=2), "first"
    deadline_s = int(recipe.builder.deadline_min * 60 * cloud.slowness)
    unpadded = render(replace(recipe, steps=(Step(name=name, run="# "),)), Resolution({}, ""), cloud=cloud.name)
    missing = size_bytes - len(unpadded.for_boot("0" * 32, deadline_s=deadline_s).encode())
    padded = replace(recipe, steps=(Step(name=name, run="# " + "x" * missing),))
    return bake(cloud, padded, BakeOptions(), home=home)


def test_a_bake_sends_what_is_too_large_through_a_rule_of_its_own(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(lambda cloud, home: bake_large(cloud, home, on_event=stage.events.append))
    assert stage.error is None
    assert methods(stage) == ["instances.insert", "firewalls.insert", "firewalls.delete", "instances.stop"]
    rule: Any = next(call.body for call in stage.server.calls if call.method == "compute.firewalls.insert")
    assert rule["sourceRanges"] == ["127.0.0.1/32"]
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert len(startup_script(stage).encode()) < 8192
    assert stage.left() == []
    assert any("are sent to the builder over SSH: gcp accepts 256 KiB at boot" in line for line in stage.notes)


def test_a_script_at_the_limit_of_metadata_needs_no_rule(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(lambda cloud, home: bake_padded(cloud, home, METADATA_BYTES))
    assert stage.error is None
    assert methods(stage) == ["instances.insert", "instances.stop"]
    assert len(startup_script(stage).encode()) == METADATA_BYTES


def test_a_script_of_one_byte_more_is_sent(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(lambda cloud, home: bake_padded(cloud, home, METADATA_BYTES + 1))
    assert stage.error is None
    assert methods(stage) == ["instances.insert", "firewalls.insert", "firewalls.delete", "instances.stop"]


def test_a_transfer_that_broke_is_continued_and_the_rule_stays_for_that_long(new_stage: NewStage) -> None:
    stage = new_stage()
    assert stage.store
    stage.store.break_off(100_000, 50_000)
    stage.play(lambda cloud, home: bake_large(cloud, home, on_event=stage.events.append))
    assert stage.error is None
    assert methods(stage) == ["instances.insert", "firewalls.insert", "firewalls.delete", "instances.stop"]
    assert sum("broke" in line for line in stage.notes) == 2


def test_nothing_of_a_transfer_stays_on_this_computer(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(bake_large)
    left = [path.name for path in (stage.home / "bakes").rglob("*")]
    assert not {"key", "script", "manifest"} & set(left)
    assert not any("partial" in name for name in left)


def test_the_key_of_a_transfer_is_in_no_request_and_of_this_bake_alone(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(bake_large)
    assert "PRIVATE KEY" not in str(stage.server.calls)
    own = (stage.home / "ssh/id_ed25519.pub").read_text().split()[1]
    assert own not in startup_script(stage)
    assert startup_script(stage).count("key='ssh-ed25519 ") == 1


def test_another_host_key_than_the_console_tells_ends_the_bake_and_leaves_nothing(new_stage: NewStage) -> None:
    class Impostor(fake_sftp.Store):
        def listen(self, machine: str, names: list[str], host_key: str = "ssh-ed25519 AAAAother") -> None:
            super().listen(machine, names, host_key)

    stage = new_stage(store=Impostor)
    stage.play(bake_large)
    assert isinstance(stage.error, CloudError)
    assert "host key" in stage.told
    assert stage.left() == []
    assert stage.store
    assert stage.store.calls == []


def test_ctrl_c_while_files_are_sent_removes_rule_and_builder(new_stage: NewStage) -> None:
    stage = new_stage()

    def press(event: Event) -> None:
        if isinstance(event, Note) and event.text.startswith("sending"):
            assert any("firewalls" in line for line in stage.server.inventory() if "bakehouse-bake" in line)
            signal.raise_signal(signal.SIGINT)

    stage.play(lambda cloud, home: bake_large(cloud, home, on_event=press))
    assert isinstance(stage.error, KeyboardInterrupt)
    assert stage.left() == []


def test_gc_removes_the_rule_of_a_killed_bake_whose_builder_is_gone(new_stage: NewStage) -> None:
    stage = new_stage()
    wire = Wire(stage.server)
    wire.strikes = lambda method, nth, when: wire.die() if (method, nth, when) == ("firewalls.insert", 1, "after") else None
    stage.play(bake_large, wire)
    (builder,) = stage.there("instances")
    path = f"zones/us-central1-a/instances/{builder.split()[0].rpartition('/')[2]}"
    url = f"{stage.server.url}/compute/v1/projects/demo/{path}"
    requests.delete(url, timeout=10).raise_for_status()  # as Google does at its deadline
    until(lambda: not stage.there("instances"), what="deletion", timeout_s=10)
    assert [line.partition("/")[2] or line for line in stage.left()] == [f"bakehouse-{path.rpartition('/')[2]}-ssh"]
    stage.collect()
    assert stage.left() == []


def test_a_rule_that_must_not_be_made_ends_the_bake_with_the_reason(new_stage: NewStage) -> None:
    stage = new_stage()
    error = ApiError(403, "forbidden", "Required 'compute.firewalls.create' permission for 'projects/demo'")
    stage.server.fault("compute.firewalls.insert", error=error, nth=None)
    stage.play(bake_large)
    assert isinstance(stage.error, DeniedError)
    assert "compute.firewalls.create" in stage.told
    assert stage.left() == []


def test_in_a_network_of_the_users_own_the_builder_is_shut_but_for_that_rule(new_stage: NewStage) -> None:
    stage = new_stage()

    def work(cloud: Cloud, home: Path) -> object:
        where = places({"project": "demo", "network": "default"})
        cloud._places = cloud._machines.places = where
        return bake_large(cloud, home)

    stage.play(work)
    assert stage.error is None
    assert methods(stage)[:3] == ["firewalls.insert", "instances.insert", "firewalls.insert"]
    assert methods(stage)[3:] == ["firewalls.delete", "instances.stop"]
    assert stage.left() == []


def test_a_builder_without_a_public_address_is_reached_at_its_internal_one(new_stage: NewStage) -> None:
    stage = new_stage()
    options = BakeOptions(no_public_ip=True)
    stage.play(lambda cloud, home: bake_large(cloud, home, on_event=stage.events.append, options=options))
    assert stage.error is None
    assert any("its internal address" in line for line in stage.notes)
