"""A real bake: what it makes, what it tells, and that it is not done twice."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.vm.bakehouse import Bakehouse, Finished, finish

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def both(bakehouse: Bakehouse) -> list[Finished]:
    """Give how two bakes of `minimal` ended that ran at the same time."""
    bakes = [bakehouse.start("bake", "--recipe", "minimal", "--force", "--json") for _ in range(2)]
    return [finish(bake) for bake in bakes]


@pytest.fixture(scope="module")
def minimal(both: list[Finished]) -> dict[str, Any]:
    """Give the result of the one whose version is the newer one."""
    assert [one.status for one in both] == [0, 0], both
    newest: dict[str, Any] = max((one.result for one in both), key=lambda result: _numbers(result["version"]))
    return newest


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def test_the_result_names_a_new_image(minimal: dict[str, Any]) -> None:
    assert {key: minimal[key] for key in ("recipe", "cloud", "reused")} == {"recipe": "minimal", "cloud": "local", "reused": False}
    assert minimal["image"] == f"minimal-{minimal['version']}"


def test_a_baked_image_is_stable(bakehouse: Bakehouse, minimal: dict[str, Any]) -> None:
    images = {image["name"]: image for image in bakehouse.must("images", "--json").result}
    assert images[minimal["image"]]["state"] == "stable"
    assert images[minimal["image"]]["version"] == minimal["version"]


def test_an_unchanged_recipe_is_not_baked_again(bakehouse: Bakehouse, minimal: dict[str, Any]) -> None:
    again = bakehouse.must("bake", "--recipe", "minimal", "--json").result
    assert (again["image"], again["reused"]) == (minimal["image"], True)


def test_a_bake_leaves_no_machine_and_nothing_half_made(bakehouse: Bakehouse, minimal: dict[str, Any]) -> None:
    assert minimal["image"]
    assert bakehouse.left_overs() == []


def test_the_logs_are_kept_with_the_image(bakehouse: Bakehouse, minimal: dict[str, Any]) -> None:
    [folder] = bakehouse.home.glob(f"local/images/{minimal['image']}/files")
    assert "=== " in (folder / "steps.log").read_text()
    assert "checkpoint" in (folder / "console.log").read_text()
    seconds = json.loads((folder / "result.json").read_text())["seconds"]
    assert {"seal", "stop", "snapshot", "inspect", "memory", "test"} <= seconds.keys()


def test_two_bakes_at_once_give_two_versions(bakehouse: Bakehouse, both: list[Finished], minimal: dict[str, Any]) -> None:
    images = {one.result["image"] for one in both}
    assert len(images) == 2
    listed = {image["name"]: image for image in bakehouse.must("images", "--recipe", "minimal", "--json").result}
    assert {listed[image]["state"] for image in images} == {"stable"}
    [older] = images - {minimal["image"]}
    bakehouse.must("delete-image", older, "--yes")
