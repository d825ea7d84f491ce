"""Reserved addresses and kept disks: what `delete` and `gc` say about them, and which one is deleted if several have a name."""

from __future__ import annotations

import pytest

import clouds
from clouds import names
from clouds.driver import Kind, Resource, State
from launcher.kept_disks import LABEL
from tests.cli.verbs import run
from tests.fake_reserving import ReservingCloud
from tests.fake_world import World
from tests.launcher.given import put_image

WEST, EAST = "west-1", "east-1"


@pytest.fixture
def cloud(world: World, monkeypatch: pytest.MonkeyPatch) -> ReservingCloud:
    """Let verbs use a cloud with addresses."""
    made = ReservingCloud(world)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: made)
    put_image(world, "jupyter", "1.4.0-7")
    return made


def test_delete_names_the_address_that_stays_and_the_command_that_releases_it(cloud: ReservingCloud) -> None:
    run("launch", name="one", static_ip="front")
    code, _, stderr = run("delete", name="one", yes=True, cloud="fake")
    assert code == 0, stderr
    released = "to release it: ./inv delete-address front --cloud fake"
    assert f"machine 'one' deleted\nits address 'front' stays reserved, and billed; {released}\n" in stderr


def test_delete_of_a_machine_without_one_names_no_address(cloud: ReservingCloud) -> None:
    run("launch", name="one")
    assert run("delete", name="one", yes=True) == (0, "", "machine 'one' deleted\n")


def test_gc_lists_the_addresses_that_no_machine_uses_and_keeps_them(cloud: ReservingCloud) -> None:
    cloud.reserve("front", WEST)
    cloud.reserve("busy", WEST, State.RUNNING)
    cloud.calls.clear()
    told = f"address 'front' ({WEST}) is reserved and billed; to release it: ./inv delete-address front\nnothing to clean up\n"
    assert run("gc", yes=True) == (0, "", told)
    assert [one.name for one in cloud.kept] == ["front", "busy"]
    assert [call for call in cloud.calls if call.startswith("owned")] == ["owned", "owned"]  # one of them for addresses alone


def test_gc_asks_a_cloud_without_addresses_for_none(cloud: ReservingCloud) -> None:
    cloud.grants = frozenset()
    cloud.calls.clear()
    assert run("gc", yes=True)[0] == 0
    assert [call for call in cloud.calls if call.startswith("owned")] == ["owned"]


def test_address_of_a_name_that_several_regions_have_needs_its_region(cloud: ReservingCloud) -> None:
    for region in (WEST, EAST):
        cloud.reserve("front", region)
    code, _, stderr = run("delete-address", address="front", yes=True)
    assert (code, len(cloud.kept)) == (1, 2)
    assert f"error: address 'front': there is one in each of the regions {EAST}, {WEST}\n" in stderr
    assert f"next: Name the region too: ./inv delete-address {EAST}/front\n" in stderr
    assert run("delete-address", address=f"{WEST}/front", yes=True)[0] == 0
    assert [one.zone for one in cloud.kept] == [EAST]
    assert run("delete-address", address=f"{WEST}/front", yes=True)[0] == 1
    assert run("delete-address", address="front", yes=True)[0] == 0


def test_address_that_is_in_use_in_another_region_is_told_apart(cloud: ReservingCloud) -> None:
    cloud.reserve("front", WEST, State.RUNNING)
    cloud.reserve("front", EAST)
    assert run("delete-address", address=f"{WEST}/front", yes=True)[0] == 1
    assert run("delete-address", address=f"{EAST}/front", yes=True)[0] == 0
    assert [one.zone for one in cloud.kept] == [WEST]


def kept_disk(zone: str) -> Resource:
    labels = names.client_labels() | {"role": "machine", "machine": "lab"} | LABEL
    return Resource(Kind.DISK, "lab", State.READY, labels, zone=zone)


def test_kept_disk_of_a_name_that_several_zones_have_needs_its_zone(cloud: ReservingCloud) -> None:
    cloud.kept = [kept_disk(WEST), kept_disk(EAST)]
    code, _, stderr = run("delete-disk", disk="lab", yes=True)
    assert (code, len(cloud.kept)) == (1, 2)
    assert f"{WEST}/lab, {EAST}/lab" in stderr
    assert run("delete-disk", disk=f"{EAST}/lab", yes=True)[0] == 0
    assert [one.zone for one in cloud.kept] == [WEST]
