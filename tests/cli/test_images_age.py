"""`images --max-age-days`: which recipes it fails for."""

from __future__ import annotations

import pytest

import clouds
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image

OLD = "error: jupyter-1.0.0-2 on fake is 20 days old\nnext: Bake it anew: ./inv bake --recipe jupyter --refresh\n"


@pytest.fixture
def two(cloud: FakeCloud, world: World) -> None:
    """Give a recipe whose newest stable image is twenty days old, with an older one and a newer candidate."""
    put_image(world, "jupyter", "1.0.0-1", days=90)
    put_image(world, "jupyter", "1.0.0-2", days=20.5)
    put_image(world, "jupyter", "1.0.0-3", days=1, state="candidate")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(("days", "code", "told"), [("20", 0, ""), ("19", 1, OLD)])
@pytest.mark.parametrize("json", [False, True])
def test_newest_stable_image_counts(days: str, code: int, told: str, *, json: bool) -> None:
    found = run("images", max_age_days=days, json=json)
    assert (found[0], found[2]) == (code, told)


def test_recipe_without_a_stable_image_fails(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.0.0-1")
    put_image(world, "minimal", "1.0.0-1", state="candidate")
    code, _, stderr = run("images", max_age_days="30")
    error = "error: minimal has no stable image on fake\nnext: Bake it anew: ./inv bake --recipe minimal --refresh\n"
    assert (code, stderr) == (1, error)


@pytest.mark.usefixtures("two")
def test_each_recipe_that_fails_has_its_own_command(world: World) -> None:
    put_image(world, "minimal", "1.0.0-1", state="candidate")
    put_image(world, "minimal", "1.0.0-2", state="candidate")
    error = "error: minimal has no stable image on fake\nnext: Bake it anew: ./inv bake --recipe minimal --refresh\n"
    assert run("images", max_age_days="19")[2] == OLD + error


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ({}, "error: no images found\nnext: Bake one: ./inv bake\n"),
        ({"recipe": "minimal"}, "error: no images of 'minimal' found\nnext: Bake one: ./inv bake --recipe minimal\n"),
        ({"recipe": "minmal"}, "error: no images of 'minmal' found\nnext: Did you mean minimal?\n"),
    ],
)
def test_no_image_at_all_fails(typed: dict[str, str], error: str) -> None:
    assert run("images", max_age_days="30", **typed) == (1, "", error)


def test_of_several_clouds_the_advice_names_the_one_with_the_image(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: FakeCloud(world))
    monkeypatch.setattr(clouds, "configured", lambda: ["fake"])
    put_image(world, "jupyter", "1.0.0-1", days=20.5)
    _, _, stderr = run("images", max_age_days="19", cloud="all")
    assert stderr.endswith("next: Bake it anew: ./inv bake --recipe jupyter --refresh --cloud fake\n")


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize("days", ["0", "-1", "nan", "1e3", "99999"])
def test_what_is_no_number_of_days_is_refused(days: str) -> None:
    assert run("images", max_age_days=days)[0] == 2
