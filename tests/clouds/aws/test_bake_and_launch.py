"""Whole bakes and launches on AWS, read from the server."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from clouds import names
from clouds.driver import Kind
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher.machines import delete
from launcher.power import start, stop
from tests.clouds.aws.stage import Stage
from tests.clouds.gcp.stage import bake_large

pytestmark = pytest.mark.server


def test_a_script_that_user_data_cannot_hold_is_sent_over_ssh(stage: Stage) -> None:
    stage.play(lambda: bake_large(stage.connect(), stage.home, on_event=stage.events.append))
    assert stage.error is None, stage.told
    made = ("RunInstances", "AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress", "StopInstances")
    asked = [call.action for call in stage.server.calls if call.action in made]
    assert asked[: asked.index("StopInstances") + 1] == list(made)
    assert any("are sent to the builder over SSH: aws accepts 15.31 KiB compressed at boot" in line for line in stage.notes)
    assert [line.split()[0] for line in stage.left()] == ["images", "snapshots"]


def test_a_bake_leaves_an_image_and_its_snapshot_and_a_launch_nothing_after_its_end(stage: Stage) -> None:
    stage.bake()
    assert stage.error is None, stage.told
    assert [line.split()[0] for line in stage.left()] == ["images", "snapshots"]
    shutdowns = [call.params["InstanceInitiatedShutdownBehavior"] for call in stage.server.calls if call.action == "RunInstances"]
    assert shutdowns == ["terminate", "terminate"]
    stage.server.calls.clear()

    stage.launch()
    assert stage.error is None, stage.told
    asked = Counter(call.action for call in stage.server.calls)
    assert asked.pop("DescribeInstances") <= 10  # it is polled
    assert asked == {
        "DescribeImages": 1,
        "DescribeSubnets": 1,
        "CreateSecurityGroup": 1,
        "AuthorizeSecurityGroupIngress": 1,
        "RunInstances": 1,
        "GetConsoleOutput": 1,
        "CreateTags": 1,
    }

    stop(stage.connect(), "mine")
    stage.server.instance("mine").launch_time += timedelta(minutes=1)  # as a start changes it
    start(stage.connect(), "mine")
    assert stage.instance()["State"]["Name"] == "running"
    assert stage.server.count("ModifyInstanceAttribute") == 1

    ledger = Ledger(stage.home / "ledger.sqlite3")
    delete(stage.connect(), ledger, "mine")
    remove(stage.connect(), ledger, Kind.IMAGE, f"tiny-{names.release()}-1")
    assert stage.left() == []
