"""The catalogue answers alike whatever the order of a cloud's list, and only with images that a user may be given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds import catalogue, names
from clouds.catalogue import Image
from clouds.driver import Kind, Resource, State

RECIPES = ("jupyter", "minimal")
CHAIN = ("k1", "k2", "k3", "k4")
STATES = (names.STABLE, names.STABLE, names.CANDIDATE, names.DEPRECATED)


LABELS = {
    "role": st.sampled_from(["image", "image", "image", "image-in-progress"]),
    "state": st.sampled_from(STATES),
    "script": st.sampled_from(["d1", "d2"]),
    "chain": st.sampled_from([*CHAIN, "other", ""]),
    "owner": st.sampled_from(["me", "other"]),
    "built-gb": st.sampled_from(["8", "10", "20", "odd", "0", "-1", "²"]),
    **dict.fromkeys(names.SIZES, st.sampled_from(["2", "2", "2", "2", "many", "0", ""])),
}
"""The values of each label; "" is one that is empty or absent. Building a strategy takes longer than drawing from it."""
NAMES = st.tuples(st.sampled_from(RECIPES), st.sampled_from(["1.4.0-2", "1.4.0-10", "1.10.0-1", "0.9-3", "odd", ""]))
KINDS = st.sampled_from([Kind.IMAGE, Kind.IMAGE, Kind.IMAGE, Kind.MACHINE])
RESOURCE_STATES = st.sampled_from([State.READY, State.READY, State.READY, State.PENDING, State.BROKEN])
ZONES = st.sampled_from(["", "west", "east"])
EMPTY_IS_KEPT = st.booleans()


@st.composite
def resources(draw: st.DrawFn) -> Resource:
    recipe, version = draw(NAMES)
    labels = {"recipe": recipe, "version": version, **{name: draw(values) for name, values in LABELS.items()}}
    kept = {key: value for key, value in labels.items() if value or draw(EMPTY_IS_KEPT)}
    return Resource(draw(KINDS), f"{recipe}-{version}", draw(RESOURCE_STATES), kept, zone=draw(ZONES))


def is_usable(image: Image) -> bool:
    """Say, apart from the code under test, whether an image can be read and has a version and sizes."""
    sizes = all(image.labels.get(size) == "2" for size in ("cpus", "memory-mb", "disk-gb"))
    return image.resource.state is State.READY and sizes and image.labels.get("version") not in ("odd", "", None)


def shuffled(found: list[Resource]) -> st.SearchStrategy[list[Resource]]:
    return st.permutations(found)


many = st.lists(resources(), max_size=8)


def place(version: str) -> tuple[int, ...]:
    """Return the sort key of a version, by numbers alone."""
    return tuple(int(part) for part in version.replace("-", ".").split(".")) if version[:1].isdigit() else (-1,)


@given(many)
def test_finished_images_have_no_bake_under_way_and_the_newest_is_last(found: list[Resource]) -> None:
    images = catalogue.finished(found)
    assert all(one.resource.state is not State.PENDING and one.labels["role"] == "image" for one in images)
    wanted = [one for one in found if (one.kind, one.labels["role"]) == (Kind.IMAGE, "image") and one.state is not State.PENDING]
    assert len(images) == len(wanted)
    places = [(one.recipe, place(one.version)) for one in images]
    assert places == sorted(places)


@given(many)
def test_what_is_broken_or_damaged_is_listed_so_and_is_not_usable(found: list[Resource]) -> None:
    images = catalogue.finished(found)
    for image in images:
        assert (image.state == "broken") == (image.resource.state is State.BROKEN)
        assert (image.state in ("broken", "damaged")) == (not is_usable(image))
    assert catalogue.usable(images) == [image for image in images if is_usable(image)]


@given(many, st.sampled_from(RECIPES))
def test_newest_stable_is_stable_and_none_is_newer(found: list[Resource], recipe: str) -> None:
    images = catalogue.finished(found)
    newest = catalogue.newest_stable(images, recipe)
    stable = [one for one in images if one.recipe == recipe and one.labels["state"] == names.STABLE and is_usable(one)]
    assert (newest is None) == (not stable)
    if newest:
        assert newest in stable
        assert place(newest.version) == max(place(one.version) for one in stable)


@given(many, st.data())
def test_the_order_of_a_list_decides_nothing(found: list[Resource], data: st.DataObject) -> None:
    other = data.draw(shuffled(found))

    def answers(listed: list[Resource]) -> list[tuple[str, str, str] | None]:
        images = catalogue.finished(listed)
        begun = catalogue.start(images, "jupyter", CHAIN, owner="me", disk_gb=10)
        one = [catalogue.newest_stable(images, "jupyter"), catalogue.equal(images, "jupyter", "d1"), begun[0] if begun else None]
        return [(image.name, image.version, image.location) if image else None for image in one]

    assert answers(found) == answers(other)
    assert catalogue.next_version(found, "jupyter") == catalogue.next_version(other, "jupyter")


@given(many, st.sampled_from(RECIPES), st.sampled_from(["d1", "d2"]))
def test_equal_image_is_stable_and_made_of_the_same(found: list[Resource], recipe: str, digest: str) -> None:
    image = catalogue.equal(catalogue.finished(found), recipe, digest)
    if image:
        assert (image.recipe, image.labels["script"], image.labels["state"]) == (recipe, digest, names.STABLE)
        assert is_usable(image)


@given(many, st.integers(0, len(CHAIN)), st.sampled_from([8, 10, 20]))
def test_builder_starts_from_the_own_stable_image_that_holds_the_most(found: list[Resource], reusable: int, disk_gb: int) -> None:
    images, chain = catalogue.finished(found), CHAIN[:reusable]
    begun = catalogue.start(images, "jupyter", chain, owner="me", disk_gb=disk_gb)
    fitting = [
        one
        for one in images
        if (one.recipe, one.labels["owner"], one.labels["state"]) == ("jupyter", "me", names.STABLE)
        and one.labels.get("chain") in chain
        and is_usable(one)
        and one.labels["built-gb"] in ("8", "10", "20")
        and int(one.labels["built-gb"]) <= disk_gb
    ]
    assert (begun is None) == (not fitting)
    if begun:
        image, held = begun
        assert image in fitting
        assert chain[held - 1] == image.labels["chain"]
        rank = (held, place(image.version))
        assert rank == max((chain.index(one.labels["chain"]) + 1, place(one.version)) for one in fitting)


@given(many)
def test_next_version_is_one_that_no_image_has(found: list[Resource]) -> None:
    version = str(catalogue.next_version(found, "jupyter"))
    assert version not in [one.labels.get("version") for one in found]


@pytest.mark.parametrize("state", [State.READY, State.BROKEN])
def test_version_of_a_damaged_or_broken_image_and_one_that_was_tried_are_taken(state: State) -> None:
    labels = {"recipe": "r", "version": f"{names.release()}-4", "role": "image", "state": names.STABLE}
    image = Resource(Kind.IMAGE, "r", state, labels)
    assert catalogue.next_version([image], "r").build == 5
    assert catalogue.next_version([image], "r", besides=[names.ImageVersion(names.release(), 5)]).build == 6


def test_half_made_image_takes_its_version() -> None:
    taken = Resource(
        Kind.IMAGE, "r", State.PENDING, {"recipe": "r", "version": f"{names.release()}-4", "role": "image-in-progress"}
    )
    assert catalogue.next_version([taken], "r").build == 5


def test_what_was_started_from_an_image_uses_it_builders_too() -> None:
    machines = [
        Resource(Kind.MACHINE, "lab", State.STOPPED, {"image": "r-1.0-1", "role": "machine"}),
        Resource(Kind.MACHINE, "bake-1", State.RUNNING, {"image": "r-1.0-1", "role": "builder"}),
        Resource(Kind.MACHINE, "other", State.RUNNING, {"image": "r-1.0-2"}),
        Resource(Kind.IMAGE, "r-1.0-1", State.READY, {"image": "r-1.0-1"}),
    ]
    assert catalogue.users(machines, "r-1.0-1") == ["lab", "bake-1"]


def test_copies_of_an_image_are_told_apart_by_their_location() -> None:
    labels = {"role": "image", "recipe": "r", "version": "1.0-1", "state": names.STABLE} | dict.fromkeys(names.SIZES, "2")
    copies = [Resource(Kind.IMAGE, "r-1.0-1", State.READY, labels, zone=zone) for zone in ("west", "east")]
    images = catalogue.finished(copies)
    assert [image.location for image in images] == ["east", "west"]
    assert catalogue.newest_stable(images, "r") == Image(copies[0])
