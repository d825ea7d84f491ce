"""What is larger than a value of metadata is sent over SSH, through a rule that is there for that time alone."""

from __future__ import annotations

from typing import Any

from clouds.gcp.instances import SCRIPT
from tests.clouds.gcp.stage import NewStage, Stage, bake_large

METADATA_BYTES = 256 * 1024


def methods(stage: Stage) -> list[str]:
    """Return the calls that change something, and those that read a console, in order."""
    names = [call.method.removeprefix("compute.") for call in stage.server.calls]
    return [name for name in names if name.startswith("firewalls.") or name in ("instances.insert", "instances.stop")]


def startup_script(stage: Stage) -> str:
    """Return the script that the first instance was made with."""
    body: Any = next(call.body for call in stage.server.calls if call.method == "compute.instances.insert")
    return str(next(item["value"] for item in body["metadata"]["items"] if item["key"] == SCRIPT))


def test_a_bake_sends_what_is_too_large_through_a_rule_of_its_own(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(lambda cloud, home: bake_large(cloud, home, on_event=stage.events.append))
    assert stage.error is None
    inserts = [name for name in methods(stage) if name != "firewalls.list"]
    assert inserts[:4] == ["instances.insert", "firewalls.insert", "firewalls.delete", "instances.stop"]
    rule: Any = next(call.body for call in stage.server.calls if call.method == "compute.firewalls.insert")
    assert rule["sourceRanges"] == ["127.0.0.1/32"]
    assert rule["allowed"] == [{"IPProtocol": "tcp", "ports": ["22"]}]
    assert len(startup_script(stage)) < 8192
    assert stage.left() == []
    assert any("are sent to the builder over SSH: gcp takes 0.262 MB at a boot" in line for line in stage.notes)


def test_nothing_of_a_transfer_stays_on_this_computer(new_stage: NewStage) -> None:
    stage = new_stage()
    stage.play(bake_large)
    assert [
        path.name for path in (stage.home / "bakes").rglob("*") if path.name in ("send", "key", "script") or "partial" in path.name
    ] == []
