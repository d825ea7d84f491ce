"""Machines on AWS whose volume outlives them: `launch --keep-disk`, `delete`, `gc`, `delete-disk`."""

from __future__ import annotations

import pytest

import clouds
from clouds.driver import Kind, Wishes
from clouds.errors import CloudError
from clouds.ledger import Ledger
from launcher import gc, kept_disks
from launcher.launch import LaunchOptions
from tests.cli.verbs import run
from tests.clouds.aws.stage import Stage, Wire
from tests.clouds.gcp.stage import LONG_AFTER, launch_tiny
from tests.fake_cloud import Killed
from tests.servers.ec2 import internal_error
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
KEEP = Wishes(keep_disk=True)


@pytest.fixture
def launched(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Give a cloud with a machine `mine` whose disk is kept, and let verbs use it."""
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
    stage.bake()
    stage.launch(wishes=KEEP)
    assert stage.error is None, stage.told
    return stage


def volumes(stage: Stage) -> list[str]:
    return [line for line in stage.left() if line.startswith("volumes ")]


def test_the_volume_outlives_its_machine_until_it_is_deleted_by_the_machines_name(launched: Stage) -> None:
    code, _, stderr = run("delete", name="mine", yes=True)
    assert code == 0, stderr
    assert "its disk is kept, and billed" in stderr
    assert "./inv delete-disk mine" in stderr
    assert [line.split()[1].partition("/")[2] for line in volumes(launched)] == ["mine"]
    [volume] = client(launched.server).describe_volumes()["Volumes"]
    tags = {tag["Key"]: tag["Value"] for tag in volume["Tags"]}
    assert {"machine": "mine", "role": "machine", "keep-disk": "1"}.items() <= tags.items()

    code, _, stderr = run("delete-disk", disk="mine")
    assert code == 2
    assert f"Delete disk '{volume['VolumeId']}' of machine 'mine' ({volume['Size']} GB, gp3, us-east-1a)" in stderr
    assert run("delete-disk", disk="mine", yes=True)[0] == 0
    assert volumes(launched) == []
    code, _, stderr = run("delete-disk", disk="mine", yes=True)
    assert (code, "kept disk 'mine' not found on aws" in stderr) == (1, True)


def test_gc_shows_a_kept_disk_and_never_takes_it(launched: Stage) -> None:
    run("delete", name="mine", yes=True)
    before = volumes(launched)
    launched.collect()
    cloud, ledger = launched.connect(), Ledger(launched.home / "ledger.sqlite3")
    found, _ = gc.survey(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True)
    assert found.garbage == []
    code, _, stderr = run("gc", yes=True)
    assert code == 0
    assert f"disk '{found.kept[0].name}' of machine 'mine'" in stderr
    assert f"is kept and billed; to delete it: ./inv delete-disk {found.kept[0].name}" in stderr
    assert volumes(launched) == before


def test_a_disk_in_use_is_not_deleted(launched: Stage) -> None:
    code, _, stderr = run("delete-disk", disk="mine", yes=True)
    assert code == 1
    assert "./inv delete mine" in stderr
    assert len(volumes(launched)) == 1


def test_two_kept_disks_of_machines_of_one_name_are_told_apart_by_their_own_names(launched: Stage) -> None:
    run("delete", name="mine", yes=True)
    launched.launch(wishes=KEEP)
    assert launched.error is None, launched.told
    run("delete", name="mine", yes=True)
    disks = launched.connect().owned({}, {Kind.DISK})
    code, _, stderr = run("delete-disk", disk="mine", yes=True)
    assert code == 1
    assert all(disk.name in stderr for disk in disks)
    assert run("delete-disk", disk=disks[0].name, yes=True)[0] == 0
    assert [disk.name for disk in launched.connect().owned({}, {Kind.DISK})] == [disks[1].name]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["ModifyInstanceAttribute", "CreateTags"])
def test_a_launch_that_fails_leaves_no_disk(stage: Stage, action: str, when: str) -> None:
    stage.bake()
    before = stage.left()
    stage.server.calls.clear()
    stage.server.fault(action, when=when, error=internal_error(), nth=None)
    if when == "after":  # the effect stays, the answer is lost; what undo asks for is answered
        stage.server.clear_faults()
        stage.server.fault(action, when=when, error=internal_error(), nth=1)
        stage.server.fault(action, when=when, error=internal_error(), nth=2)
    stage.launch(wishes=KEEP)
    assert isinstance(stage.error, CloudError)
    stage.collect()
    assert stage.left() == before


@pytest.mark.parametrize(
    ("action", "when"), [("ModifyInstanceAttribute", "before"), ("ModifyInstanceAttribute", "after"), ("CreateTags", "before")]
)
def test_a_launch_that_is_killed_leaves_no_disk_after_one_gc(stage: Stage, action: str, when: str) -> None:
    stage.bake()
    before = stage.left()
    wire = Wire()
    wire.strikes = lambda seen, _nth, then: wire.die() if (seen, then) == (action, when) else None
    ordered = LaunchOptions(recipe="tiny", name="mine", wishes=KEEP)
    stage.play(lambda: launch_tiny(stage.connect(wire), stage.home, options=ordered))
    assert isinstance(stage.error, Killed)
    stage.collect()
    assert stage.left() == before


def test_a_machine_whose_launch_did_not_finish_is_deleted_with_its_disk(launched: Stage) -> None:
    launched.connect().label(Kind.MACHINE, "mine", {"role": "machine-in-progress"})
    assert run("delete", name="mine", yes=True)[0] == 0
    assert volumes(launched) == []


def test_a_machine_without_the_option_asks_for_nothing_more(stage: Stage) -> None:
    stage.bake()
    stage.launch()
    assert stage.server.count("ModifyInstanceAttribute") == 0
    assert not any("keep-disk" in value for call in stage.server.calls for value in call.params.values())
    assert kept_disks.LABEL == {"keep-disk": "1"}
