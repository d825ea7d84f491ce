"""What a bake is given before it starts: its deadlines."""

from __future__ import annotations

from pathlib import Path

import pytest

from bakery.order import BakeOptions, patience, place_order
from bakery.recipe.recipe import load
from tests.fake_cloud import FakeCloud
from tests.fake_world import World


class CloudHere(FakeCloud):
    """A cloud whose machines run on this computer."""

    accelerator_name = "kvm"

    def notices(self) -> list[str]:
        """Return nothing."""
        return []

    def logout_notices(self) -> list[str]:
        """Return nothing."""
        return []


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
