"""What a bake is given before it starts: its deadlines, its base."""

from __future__ import annotations

from pathlib import Path

import pytest

from bakery.order import BakeOptions, Order, patience, place_order
from bakery.plan import plan
from bakery.recipe.recipe import Recipe, Step, load
from clouds.driver import Base, BaseImage, State, Tell
from tests.fake_cloud import FakeCloud
from tests.fake_world import Image, World


class CloudHere(FakeCloud):
    """A cloud whose machines run on this computer."""

    accelerator_name = "kvm"

    def notices(self) -> list[str]:
        """Return nothing."""
        return []

    def logout_notices(self) -> list[str]:
        """Return nothing."""
        return []


class CloudThatInstalls(FakeCloud):
    """A cloud whose bases may have packages; it has built no base with `broken`, and cannot."""

    installs_in_bases = True

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return a base that is named after its packages."""
        given = Base(base.suite, base.architecture, () if "broken" in base.packages else base.packages)
        return BaseImage("-".join(["base", *given.packages]), "fake", given)

    def kept_base(self, base: Base) -> BaseImage | None:
        """Return the base, unless it must be built first."""
        return None if "new" in base.packages else self.resolve_base(base)


def with_packages(*packages: str, in_base: bool = True) -> Recipe:
    """Return a recipe whose first step installs packages."""
    steps = (Step(name="tools", apt=packages, in_base=in_base), Step(name="more", apt=("zip",)))
    return Recipe(name="mine", folder=Path("/nowhere"), steps=steps)


def placed(cloud: FakeCloud, recipe: Recipe, home: Path) -> Order:
    """Place the order of a recipe."""
    return place_order(cloud, recipe, BakeOptions(), home, lambda _line: None)


def test_base_has_the_packages_of_steps_that_say_so_where_the_cloud_can(tmp_path: Path) -> None:
    cloud, other = CloudThatInstalls(World(tmp_path)), FakeCloud(World(tmp_path))
    assert placed(cloud, with_packages("vim", "git"), tmp_path).base.id == "base-git-vim"
    assert placed(cloud, with_packages("vim", in_base=False), tmp_path).base.id == "base"
    assert placed(other, with_packages("vim"), tmp_path).base.base == Base("trixie", "amd64")


def test_changed_packages_of_the_base_change_image_and_layers_and_the_script_installs_them_everywhere(tmp_path: Path) -> None:
    cloud, other = CloudThatInstalls(World(tmp_path)), FakeCloud(World(tmp_path))
    inside, outside, failed = (
        placed(cloud, recipe, tmp_path)
        for recipe in (with_packages("vim"), with_packages("vim", in_base=False), with_packages("vim", "broken"))
    )
    assert inside.script.text == outside.script.text
    assert "apt_install vim\n" in inside.script.text
    assert inside.digest != outside.digest
    assert not {link.key for link in inside.chain} & {link.key for link in outside.chain}
    assert failed.base == BaseImage("base", "fake", Base("trixie", "amd64"))
    assert failed.chain[0].key == outside.chain[0].key
    there = [placed(other, with_packages("vim", in_base=said), tmp_path).digest for said in (True, False)]
    assert there[0] == there[1]


def test_plan_names_the_base_that_a_bake_would_start_from(tmp_path: Path) -> None:
    cloud = CloudThatInstalls(World(tmp_path))
    baked = placed(cloud, with_packages("vim"), tmp_path)
    labels = {**baked.labels, "role": "image", "version": "0.1.0-1", "state": "stable", "project": "bakehouse"}
    cloud.world.images["mine-0.1.0-1"] = Image({**labels, "cpus": "2", "memory-mb": "4096", "disk-gb": "10"}, {}, 0.0, State.READY)
    assert plan(cloud, with_packages("vim"), home=tmp_path)[0].startswith("bake: nothing to do: mine-0.1.0-1")
    assert plan(cloud, with_packages("vim", "git"), home=tmp_path)[0] == "bake: would run: the base has changed since mine-0.1.0-1"
    assert plan(cloud, with_packages("new"), home=tmp_path)[0] == "bake: would run: its current base is not built yet"


@pytest.mark.parametrize("slowness", [1.0, 8.0])
def test_steps_that_download_have_the_same_time_on_kvm_as_emulated(tmp_path: Path, slowness: float) -> None:
    cloud, recipe = CloudHere(World(tmp_path)), load("minimal")
    cloud.slowness = slowness
    order = place_order(cloud, recipe, BakeOptions(), tmp_path, lambda _line: None)
    assert order.deadline_s == recipe.builder.deadline_min * 60 * 8
    assert order.silence_s == recipe.builder.silence_min * 60 * 8


def test_slower_guests_have_more_time_than_the_network_needs(tmp_path: Path) -> None:
    cloud = CloudHere(World(tmp_path))
    cloud.slowness = 20.0
    assert patience(cloud) == 20


@pytest.mark.parametrize("slowness", [0.5, 1.0, 3.0])
def test_data_center_has_the_time_of_the_recipe_by_its_slowness(tmp_path: Path, slowness: float) -> None:
    cloud = FakeCloud(World(tmp_path))
    cloud.slowness = slowness
    assert patience(cloud) == slowness
