"""The verbs `pin`, `unpin` and `prune`."""

from __future__ import annotations

import pytest

import clouds
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image


@pytest.fixture
def three(cloud: FakeCloud, world: World) -> list[str]:
    """Give the cloud three stable images of a recipe."""
    return [put_image(world, "jupyter", f"1.0.0-{build}") for build in (1, 2, 3)]


def test_prune_shows_what_goes_and_why_the_rest_stays_before_it_asks(cloud: FakeCloud, world: World, three: list[str]) -> None:
    assert run("pin", image=three[0])[::2] == (0, f"image '{three[0]}' is pinned; to unpin it: ./inv unpin {three[0]}\n")
    code, _, stderr = run("prune", keep="1")
    assert (code, list(world.images)) == (2, three)
    assert stderr == (
        f"keep image '{three[0]}': pinned; to unpin it: ./inv unpin {three[0]}\n"
        f"keep image '{three[2]}': the newest stable image of its recipe\n"
        f"delete image '{three[1]}'\n"
        "error: no terminal to ask on: Continue?\n"
        "next: Confirm with --yes.\n"
    )


def test_prune_deletes_and_the_second_one_has_nothing_to_do(cloud: FakeCloud, world: World, three: list[str]) -> None:
    code, _, stderr = run("prune", keep="1", yes=True)
    assert (code, list(world.images), stderr.splitlines()[-1]) == (0, three[2:], "deleted 2 images")
    code, _, stderr = run("prune", keep="1", yes=True)
    assert (code, stderr.splitlines()[-1]) == (0, "no images to delete")


def test_prune_without_keep_is_refused_before_anything_is_asked(cloud: FakeCloud, three: list[str]) -> None:
    code, _, stderr = run("prune", yes=True)
    assert (code, cloud.calls) == (2, [])
    assert stderr.startswith("error: --keep is missing\n")


def test_prune_of_one_recipe_and_of_old_images_alone(cloud: FakeCloud, world: World, three: list[str]) -> None:
    assert run("prune", keep="1", recipe="minimal", yes=True) == (
        0,
        "",
        "no images to delete: none of the recipe 'minimal' found\n",
    )
    for image in world.images.values():
        image.created_at = 1000.0
    assert run("prune", keep="1", older_than="3650", yes=True)[0] == 0
    assert len(world.images) == 1  # they are from 1970


def test_pinned_image_is_shown_as_such_until_it_is_unpinned(cloud: FakeCloud, three: list[str]) -> None:
    run("pin", image=three[0])
    assert run("images")[1].count("stable (pinned)") == 1
    assert run("unpin", image=three[0])[::2] == (0, f"image '{three[0]}' is no longer pinned\n")
    assert "pinned" not in run("images")[1]


def test_prune_of_all_clouds_names_each(cloud: FakeCloud, world: World, three: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "configured", lambda: ["fake", "fake"])
    code, _, stderr = run("prune", keep="1", cloud="all", yes=True)
    assert (code, list(world.images)) == (0, three[2:])
    assert f"fake: delete image '{three[1]}'\n" in stderr


def test_prune_that_cannot_see_all_machines_fails_and_deletes_nothing(cloud: FakeCloud, world: World, three: list[str]) -> None:
    cloud.unreachable = {"zone-b"}
    code, _, stderr = run("prune", keep="1", yes=True)
    assert (code, list(world.images)) == (1, three)
    assert "machines may need it: could not reach zone-b" in stderr
