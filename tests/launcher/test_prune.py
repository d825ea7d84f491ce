"""prune: which images go, which stay and why, and what becomes of a deletion that fails."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from clouds.driver import Kind, Resource, State
from clouds.errors import CloudError, ConflictError, LeftoverError, NotFoundError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.images import delete_image, images, pin
from launcher.packages import keep
from launcher.prune import DAY_S, Rules, Survey, collect, survey
from tests.fake_cloud import PACKAGES, FakeCloud
from tests.fake_regions import RegionalCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image

NOW = time.time() + 9 * DAY_S
TWO, ONE = Rules(keep=2), Rules(keep=1)


def versions(found: Survey) -> tuple[list[str], dict[str, str]]:
    """Return what goes, and the reasons of what stays, by version."""
    return [image.version for image in found.goes], {image.version: reason for image, reason in found.stays}


def put_images(world: World, *builds: int, state: str = "stable") -> list[str]:
    return [put_image(world, "jupyter", f"1.0.0-{build}", state=state) for build in builds]


def test_newest_stable_images_of_each_recipe_stay(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    put_images(world, 9, 10, 11, 2)
    put_image(world, "minimal", "1.0.0-1")
    found = survey(fake, TWO, now=NOW)
    assert versions(found)[0] == ["1.0.0-2", "1.0.0-9"]
    assert versions(found)[1] == {
        "1.0.0-10": "one of the 2 newest stable images of its recipe",
        "1.0.0-11": "the newest stable image of its recipe",
        "1.0.0-1": "the newest stable image of its recipe",
    }
    assert collect(fake, ledger, found) == []
    assert [image.name for image in images(fake)] == ["jupyter-1.0.0-10", "jupyter-1.0.0-11", "minimal-1.0.0-1"]
    assert survey(fake, TWO, now=NOW).goes == ()


def test_candidate_goes_once_there_is_a_newer_stable_image(fake: FakeCloud, world: World) -> None:
    put_images(world, 2)
    put_images(world, 1, 3, state="candidate")
    put_image(world, "minimal", "1.0.0-9", state="candidate")
    goes, stays = versions(survey(fake, ONE, now=NOW))
    assert goes == ["1.0.0-1"]
    assert stays["1.0.0-3"] == stays["1.0.0-9"] == "newer than the stable images of its recipe"


@pytest.mark.parametrize("rules", [ONE, TWO, Rules(keep=3), Rules(keep=4)])
def test_what_a_coming_image_replaces_is_what_goes_after_it(fake: FakeCloud, world: World, rules: Rules) -> None:
    put_images(world, 1, 3, 4)
    put_images(world, 2, 5, state="candidate")
    expected = versions(survey(fake, replace(rules, is_one_coming=True), now=NOW))[0]
    put_images(world, 6)
    assert versions(survey(fake, rules, now=NOW))[0] == expected


def test_only_images_of_the_recipe_are_looked_at(fake: FakeCloud, world: World) -> None:
    put_images(world, 1, 2)
    put_image(world, "minimal", "1.0.0-8")
    put_image(world, "minimal", "1.0.0-9")
    found = survey(fake, replace(ONE, recipe="minimal"), now=NOW)
    assert versions(found) == (["1.0.0-8"], {"1.0.0-9": "the newest stable image of its recipe"})


def test_young_images_stay(fake: FakeCloud, world: World) -> None:
    first, second, _ = put_images(world, 1, 2, 3)
    world.images[first].created_at = NOW - 9 * DAY_S
    world.images[second].created_at = NOW - 7 * DAY_S
    goes, stays = versions(survey(fake, replace(ONE, older_than_s=8 * DAY_S), now=NOW))
    assert (goes, stays["1.0.0-2"]) == (["1.0.0-1"], "only 7 days old")


def test_pinned_image_stays_until_it_is_unpinned(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    first, *_ = put_images(world, 1, 2)
    pin(fake, first, pinned=True)
    goes, stays = versions(survey(fake, ONE, now=NOW))
    assert (goes, stays["1.0.0-1"]) == ([], f"pinned; to unpin it: ./inv unpin {first}")
    with pytest.raises(ConflictError, match="is pinned") as raised:
        delete_image(fake, ledger, first)
    assert raised.value.next_step == f"Unpin it first: ./inv unpin {first}"
    pin(fake, first, pinned=False)
    assert versions(survey(fake, ONE, now=NOW))[0] == ["1.0.0-1"]


def test_pinning_an_unknown_image_names_the_nearest(fake: FakeCloud, jupyter: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        pin(fake, "jupyter-1.4.0-8", pinned=True)
    assert raised.value.next_step == f"Did you mean {jupyter}?"


def test_image_that_a_machine_needs_stays(fake: FakeCloud, world: World) -> None:
    put_images(world, 1)
    launch_one(fake, "one")
    put_images(world, 2)
    goes, stays = versions(survey(fake, ONE, now=NOW))
    assert (goes, stays["1.0.0-1"]) == ([], "in use by one")


def test_image_with_damaged_labels_stays(fake: FakeCloud, world: World) -> None:
    first, second, *_ = put_images(world, 1, 2, 3)
    del world.images[first].labels["cpus"]
    world.images[second].state = State.BROKEN
    goes, stays = versions(survey(fake, ONE, now=NOW))
    assert goes == []
    assert stays["1.0.0-1"] == f"its labels are damaged; to delete it: ./inv delete-image {first}"
    assert stays["1.0.0-2"] == f"its labels are damaged; to delete it: ./inv delete-image {second}"


def test_images_stay_while_a_part_of_the_cloud_does_not_respond(fake: FakeCloud, world: World) -> None:
    put_images(world, 1, 2)
    fake.unreachable = {"zone-b"}
    found = survey(fake, ONE, now=NOW)
    assert versions(found)[1]["1.0.0-1"] == "machines may need it: could not reach zone-b"
    assert found.missing == ("zone-b",)


def test_images_of_other_regions_are_left_alone(world: World) -> None:
    cloud = RegionalCloud(world)
    put_images(world, 1, 2, 3)
    cloud.move_elsewhere("jupyter-1.0.0-1")
    assert versions(survey(cloud, ONE, now=NOW))[0] == ["1.0.0-2"]


def test_image_that_has_changed_since_stays(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    first, second, _ = put_images(world, 1, 2, 3)
    found = survey(fake, ONE, now=NOW)
    pin(fake, first, pinned=True)
    world.images[second].created_at += 1
    assert [image.name for image in collect(fake, ledger, found)] == [first, second]
    assert len(world.images) == 3


def test_failed_deletion_stops_no_other_and_is_finished_by_the_next_prune(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    first, _, _ = put_images(world, 1, 2, 3)
    fake.fault("delete", error=CloudError("out of order"))
    with pytest.raises(LeftoverError, match=f"could not delete:\nimage '{first}' .out of order.") as raised:
        collect(fake, ledger, survey(fake, ONE, now=NOW))
    assert raised.value.next_step == "Run the command again."
    assert list(world.images) == [first, "jupyter-1.0.0-3"]
    collect(fake, ledger, survey(fake, ONE, now=NOW))
    assert list(world.images) == ["jupyter-1.0.0-3"]


def test_image_that_is_listed_although_it_is_gone_is_a_success(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    first, _ = put_images(world, 1, 2)
    found = survey(fake, ONE, now=NOW)
    del world.images[first]
    assert collect(fake, ledger, found) == []


def test_snapshots_of_deleted_images_go(world: World, ledger: Ledger) -> None:
    snapshot = Resource(Kind.DISK, "snap-1", State.READY, {"project": "bakehouse", "role": "image", "recipe": "jupyter"})

    class Snapshots(FakeCloud):
        def _resources(self):  # type: ignore[no-untyped-def]
            return [*super()._resources(), snapshot]

    cloud = Snapshots(world)
    assert survey(cloud, ONE, now=NOW).left == (snapshot,)
    assert survey(cloud, replace(ONE, recipe="minimal"), now=NOW).left == ()
    collect(cloud, ledger, survey(cloud, ONE, now=NOW))
    assert "delete snap-1" in cloud.calls


def test_list_of_packages_goes_with_its_image(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    first, _ = put_images(world, 1, 2)
    world.images[first].labels["bake"] = "bake-1"
    assert keep(home(), "bake-1", PACKAGES.decode())
    collect(fake, ledger, survey(fake, ONE, now=NOW))
    assert list((home() / "packages").iterdir()) == []
