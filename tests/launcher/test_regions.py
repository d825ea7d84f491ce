"""A cloud that keeps images in regions: what can start from an image is in its region, and a name means the image there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.plan import plan
from bakery.recipe.recipe import Recipe, Step
from clouds import names
from clouds.errors import NotFoundError
from clouds.ledger import Ledger
from launcher.images import delete_image, find_image, images
from tests.fake_regions import ELSEWHERE, HERE, RegionalCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image


@pytest.fixture
def regional(world: World) -> RegionalCloud:
    return RegionalCloud(world)


def test_machine_is_launched_from_the_newest_image_of_its_region(regional: RegionalCloud, world: World) -> None:
    old, new = put_image(world, "jupyter", "1.0.0-1"), put_image(world, "jupyter", "1.0.0-2")
    regional.move_elsewhere(new)
    assert launch_one(regional).image == old
    assert [image.name for image in images(regional)] == [old, new]


def test_image_of_another_region_is_named_where_there_is_none_here(regional: RegionalCloud, world: World) -> None:
    regional.move_elsewhere(put_image(world, "jupyter", "1.0.0-1"))
    with pytest.raises(NotFoundError, match="recipe 'jupyter' has no stable image on fake") as raised:
        find_image(regional, recipe="jupyter")
    assert f"in the region {ELSEWHERE}" in raised.value.next_step
    with pytest.raises(NotFoundError, match=r"no image of version 1\.0\.0-1"):
        find_image(regional, recipe="jupyter", version="1.0.0-1")


def test_copy_in_another_region_stays_when_the_one_here_is_deleted(regional: RegionalCloud, world: World, tmp_path: Path) -> None:
    name = put_image(world, "jupyter", "1.0.0-1")
    regional.copy_elsewhere(name)
    assert find_image(regional, recipe="jupyter").location == HERE
    delete_image(regional, Ledger(tmp_path / "ledger.sqlite3"), name)
    assert [(image.name, image.location) for image in images(regional)] == [(name, ELSEWHERE)]


def test_equal_image_of_another_region_is_baked_here_under_the_next_version(regional: RegionalCloud, tmp_path: Path) -> None:
    recipe = Recipe(name="tiny", folder=tmp_path, steps=(Step(name="first", run="true"),))
    first = bake(regional, recipe, BakeOptions(), home=tmp_path)
    assert bake(regional, recipe, BakeOptions(), home=tmp_path).reused
    regional.move_elsewhere(first.image)
    assert plan(regional, recipe, home=tmp_path)[0].startswith("bake: would run")
    second = bake(regional, recipe, BakeOptions(), home=tmp_path)
    assert (second.reused, second.version) == (False, f"{names.release()}-2")
