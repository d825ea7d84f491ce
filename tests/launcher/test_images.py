import pytest

from clouds.driver import State
from clouds.errors import ConflictError, NotFoundError, UsageError
from clouds.ledger import Ledger
from launcher.command.tables import image_row
from launcher.command.terminal import table
from launcher.images import RECIPES, delete_image, find_image, images
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MEMORY_BYTES, MemoryCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image, put_memory


def test_images_are_sorted_by_recipe_and_then_by_number_not_by_letters(fake: FakeCloud, world: World) -> None:
    for recipe, version in [("r", "1.4.0-7"), ("jupyter", "1.10.0-1"), ("jupyter", "1.4.0-10"), ("jupyter", "1.4.0-9")]:
        put_image(world, recipe, version)
    assert [image.name for image in images(fake)] == ["jupyter-1.4.0-9", "jupyter-1.4.0-10", "jupyter-1.10.0-1", "r-1.4.0-7"]


def test_image_that_is_not_finished_is_not_listed(fake: FakeCloud, world: World) -> None:
    world.images[put_image(world, "jupyter", "1.0.0-1")].state = State.PENDING
    world.images[put_image(world, "jupyter", "1.0.0-2")].labels["role"] = "image-in-progress"
    assert images(fake) == []


def test_image_whose_version_cannot_be_read_is_listed_first(fake: FakeCloud, world: World, jupyter: str) -> None:
    odd = put_image(world, "jupyter", "odd")
    assert [image.name for image in images(fake)] == [odd, jupyter]


def test_json_of_an_image_has_the_promised_fields(fake: FakeCloud, jupyter: str) -> None:
    (image,) = images(fake)
    shown = image.to_json()
    assert list(shown) == ["name", "state", "cloud", "version", "memory_bytes", "labels"]
    assert (shown["name"], shown["state"], shown["cloud"], shown["version"]) == (jupyter, "stable", "fake", "1.4.0-7")


def test_memory_of_an_image_is_shown_in_a_column_of_its_own(keeping: MemoryCloud, world: World, jupyter: str) -> None:
    assert "MEMORY" not in table([image_row(image) for image in images(keeping)])[0]
    put_memory(world, jupyter)
    put_image(world, "minimal", "1.0.0-1")
    found = images(keeping)
    assert [image.to_json()["memory_bytes"] for image in found] == [MEMORY_BYTES, 0]
    assert [image_row(image)["memory"] for image in found] == ["77 MB", ""]
    assert table([image_row(found[0])])[0].split()[-3:] == ["TOTAL", "MEMORY", "CREATED"]  # the total includes the memory


def test_latest_is_the_highest_stable_version_of_the_recipe(fake: FakeCloud, world: World) -> None:
    for version in ("1.4.0-9", "1.4.0-10", "1.4.0-2"):
        put_image(world, "jupyter", version)
    put_image(world, "jupyter", "1.5.0-1", state="candidate")
    put_image(world, "minimal", "2.0.0-1")
    assert find_image(fake, recipe="jupyter").name == "jupyter-1.4.0-10"


def test_recipe_without_an_image_has_a_hint_to_bake_one(fake: FakeCloud, jupyter: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="minimal")
    assert raised.value.next_step == "Bake one: ./inv bake --recipe minimal"


@pytest.mark.parametrize(("typed", "meant"), [("jupiter", "jupyter"), ("minimol", "minimal"), ("lab-for-r", "lab-of-r")])
def test_misspelt_recipe_asks_for_the_nearest_in_images_or_with_an_image(
    fake: FakeCloud, world: World, typed: str, meant: str
) -> None:
    put_image(world, "lab-of-r", "1.0.0-1")
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe=typed)
    assert raised.value.next_step == f"Did you mean {meant}?"


def test_recipe_elsewhere_is_baked_by_its_path(fake: FakeCloud, world: World) -> None:
    put_image(world, "mine", "1.0.0-1")
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="r")
    listed = ", ".join(sorted([*(path.stem for path in RECIPES.glob("*.toml")), "mine"]))
    assert raised.value.next_step == f"Choose one of {listed}, or bake one of your own: ./inv bake --recipe PATH.toml"
    put_image(world, "r", "1.0.0-1", state="candidate")
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="r")
    assert raised.value.next_step.startswith("Bake one: ./inv bake --recipe PATH.toml; to launch the newest candidate")


def test_recipe_with_a_candidate_only_names_it_but_does_not_take_it(fake: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-3", state="candidate")
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="jupyter")
    assert "--version 1.4.0-3" in raised.value.next_step


def test_candidate_is_found_by_its_version_and_by_its_name(fake: FakeCloud, world: World, jupyter: str) -> None:
    candidate = put_image(world, "jupyter", "1.4.0-8", state="candidate")
    assert find_image(fake, recipe="jupyter", version="1.4.0-8").name == candidate
    assert find_image(fake, recipe="jupyter", name=candidate).state == "candidate"


def test_image_whose_bake_is_under_way_is_found_by_its_name(fake: FakeCloud, world: World, jupyter: str) -> None:
    world.images[jupyter].labels["role"] = "image-in-progress"
    assert find_image(fake, recipe="anything", name=jupyter).recipe == "jupyter"


def test_invalid_or_missing_version_lists_the_available_ones(fake: FakeCloud, jupyter: str) -> None:
    with pytest.raises(UsageError):
        find_image(fake, recipe="jupyter", version="latest")
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="jupyter", version="1.4.0-8")
    assert "1.4.0-7" in raised.value.next_step


def test_unknown_name_asks_for_the_nearest(fake: FakeCloud, jupyter: str) -> None:
    with pytest.raises(NotFoundError) as raised:
        find_image(fake, recipe="jupyter", name="jupiter-1.4.0-7")
    assert raised.value.next_step == "Did you mean jupyter-1.4.0-7?"


def test_deleted_image_is_removed_from_cloud_and_ledger(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    delete_image(fake, ledger, jupyter)
    assert images(fake) == []
    with pytest.raises(NotFoundError):
        delete_image(fake, ledger, jupyter)


def test_image_that_a_machine_needs_is_kept(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch_one(fake, "one")
    with pytest.raises(ConflictError, match="in use by one") as raised:
        delete_image(fake, ledger, jupyter)
    assert raised.value.next_step.endswith("./inv delete one")
    assert [image.name for image in images(fake)] == [jupyter]
