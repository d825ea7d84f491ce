"""prune and pins on AWS, where each image has snapshots."""

from __future__ import annotations

import time

import pytest

from bakery.order import BakeOptions
from clouds.driver import Kind
from clouds.ledger import Ledger
from launcher.images import pin
from launcher.prune import Rules, collect, survey
from tests.clouds.aws.stage import Stage, Wire
from tests.clouds.gcp.stage import bake_tiny
from tests.fake_cloud import Killed
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
ONE = Rules(keep=1)
NEWEST = ["images tiny-0.1.0-2", "snapshots tiny-0.1.0-2"]


@pytest.fixture
def two(stage: Stage) -> Stage:
    """Give a cloud with two stable images, of which the older has a machine."""
    stage.bake()
    stage.launch()
    stage.play(lambda: bake_tiny(stage.connect(), stage.home, options=BakeOptions(force=True)))
    assert stage.error is None, stage.told
    return stage


def images(stage: Stage) -> list[str]:
    """Return the images and snapshots, as `images NAME`."""
    lines = [line.split() for line in stage.left()]
    return [f"{words[0]} {words[1].rpartition('/')[2]}" for words in lines if words[0] in ("images", "snapshots")]


def prune(stage: Stage, wire: Wire | None = None) -> list[str]:
    """Prune like a command; return what it has found."""
    cloud = stage.connect(wire)
    found = survey(cloud, ONE, now=time.time())
    collect(cloud, Ledger(stage.home / "ledger.sqlite3"), found)
    return [*(image.name for image in found.goes), *(one.name for one in found.left)]


def test_an_image_goes_with_its_snapshot_although_a_machine_of_it_is_running(two: Stage) -> None:
    assert len(images(two)) == 4
    assert prune(two) == ["tiny-0.1.0-1"]
    assert images(two) == NEWEST
    assert two.instance()["State"]["Name"] == "running"
    assert prune(two) == []


def test_a_pin_is_on_the_image_and_its_snapshot(two: Stage) -> None:
    pin(two.connect(), "tiny-0.1.0-1", pinned=True)
    assert prune(two) == []
    pinned = client(two.server).describe_snapshots(OwnerIds=["self"], Filters=[{"Name": "tag:pinned", "Values": ["1"]}])
    assert len(pinned["Snapshots"]) == 1
    pin(two.connect(), "tiny-0.1.0-1", pinned=False)
    assert prune(two) == ["tiny-0.1.0-1"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", ["DescribeImages", "DeregisterImage", "DescribeSnapshots", "DeleteSnapshot"])
def test_a_prune_that_is_killed_is_finished_by_the_next(two: Stage, action: str, when: str) -> None:
    def strike(called: str, _nth: int, at: str) -> None:
        if (called, at) == (action, when):
            wire.die()

    wire = Wire(strike)
    with pytest.raises(Killed):
        prune(two, wire)
    prune(two)
    assert images(two) == NEWEST
    assert prune(two) == []


def test_a_snapshot_whose_image_is_gone_goes(two: Stage) -> None:
    ec2 = client(two.server)
    [ami] = ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["tiny-0.1.0-1"]}])["Images"]
    ec2.deregister_image(ImageId=ami["ImageId"])
    [snapshot] = prune(two)
    assert snapshot.startswith("snap-")
    assert images(two) == NEWEST


def test_an_image_that_is_still_listed_after_it_is_gone_is_a_success(two: Stage) -> None:
    cloud = two.connect()
    found = survey(cloud, ONE, now=time.time())
    assert prune(two) == ["tiny-0.1.0-1"]
    assert collect(cloud, Ledger(two.home / "ledger.sqlite3"), found) == []
    assert cloud.find(Kind.IMAGE, "tiny-0.1.0-2")
