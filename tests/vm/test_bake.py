"""A real bake: what it makes, what it tells, and that it is not done twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.vm.bakehouse import Bakehouse, finish

pytestmark = pytest.mark.vm


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


def test_two_bakes_at_once_give_two_versions(bakehouse: Bakehouse, minimal: dict[str, Any]) -> None:
    bakes = [bakehouse.start("bake", "--recipe", "minimal", "--force", "--json") for _ in range(2)]
    finished = [finish(bake) for bake in bakes]
    assert [one.status for one in finished] == [0, 0], finished
    versions = {minimal["version"], *(one.result["version"] for one in finished)}
    assert len(versions) == 3
    for one in finished:
        bakehouse.must("delete-image", one.result["image"], "--yes")
