"""Machines on Google Cloud whose disk outlives them: `launch --keep-disk`."""

from __future__ import annotations

import pytest

from clouds.driver import Wishes
from clouds.errors import CloudError
from clouds.ledger import Ledger
from launcher import kept_disks
from launcher.launch import LaunchOptions
from launcher.machines import delete
from tests.clouds.gcp.stage import NewStage, Stage, Wire, launch_tiny

KEEP = LaunchOptions(recipe="tiny", name="mine", wishes=Wishes(keep_disk=True))


def launch(stage: Stage, wire: Wire | None = None) -> None:
    stage.play(lambda cloud, home: launch_tiny(cloud, home, options=KEEP), wire)


def test_the_disk_outlives_its_machine_until_it_is_deleted(new_stage: NewStage) -> None:
    stage = new_stage("launch")
    launch(stage)
    assert stage.error is None, stage.told
    cloud, ledger = stage.connect(), Ledger(stage.home / "ledger.sqlite3")
    delete(cloud, ledger, "mine")
    stage.collect()
    assert stage.there("disks") == ["us-central1-a/mine READY"]
    disk = kept_disks.find_disk(stage.connect(), "mine")
    assert kept_disks.described(disk).startswith("disk 'mine' (")
    assert "pd-balanced, us-central1-a)" in kept_disks.described(disk)
    kept_disks.delete_disk(cloud, ledger, disk)
    assert stage.there("disks") == []


def test_a_new_machine_cannot_have_the_name_of_a_kept_disk_and_leaves_that_disk_alone(new_stage: NewStage) -> None:
    stage = new_stage("launch")
    launch(stage)
    delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "mine")
    launch(stage)
    assert "./inv delete-disk mine" in stage.told
    stage.collect()
    assert stage.there("disks") == ["us-central1-a/mine READY"]
    assert stage.there("instances") == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("method", ["instances.setDiskAutoDelete", "instances.setLabels", "disks.setLabels"])
def test_a_launch_that_is_interrupted_leaves_no_disk(new_stage: NewStage, method: str, when: str) -> None:
    stage, due = new_stage("launch"), iter([True])

    def strikes(called: str, _nth: int, at: str) -> None:
        if (called, at) == (method, when) and next(due, False):
            raise KeyboardInterrupt

    launch(stage, Wire(stage.server, strikes))
    assert isinstance(stage.error, KeyboardInterrupt | CloudError)
    assert stage.there("disks") == []
    assert stage.there("instances") == []
