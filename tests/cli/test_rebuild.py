"""The verb `rebuild`, as far as it bakes nothing: what is typed, and what may fail around the bakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clouds
from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import load
from clouds.driver import Base, BaseImage, Tell
from clouds.errors import CloudError, DeniedError
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

RECIPE = 'name = "{name}"\n[[steps]]\nname = "one"\nrun = "true"\n'


class OneBase(FakeCloud):
    """A cloud that has no newer base."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        return super().resolve_base(base)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path / "home"))
    (tmp_path / "tiny.toml").write_text(RECIPE.format(name="tiny"))
    return str(tmp_path / "tiny.toml")


@pytest.fixture
def baked(recipe: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Give a cloud whose image is up to date."""
    cloud = OneBase(world)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: cloud)
    bake(cloud, load(recipe), BakeOptions(), home=tmp_path / "home")
    return cloud


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ({"recipe": "minimal", "cloud": "local,nimbus"}, "unknown cloud 'nimbus'"),
        ({"recipe": "minimal,images/minimal.toml", "cloud": "local"}, "--recipe: 'minimal' is given twice"),
        ({"recipe": "minimal,minmal", "cloud": "local"}, "recipe 'minmal' not found"),
        ({"recipe": "minimal", "cloud": "gcp.nobody"}, "gcp.nobody"),
        ({"recipe": ","}, "--recipe: ',' has no name"),
        ({"cloud": " , "}, "--cloud: ' , ' has no name"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_looked_up(
    typed: dict[str, str], error: str, baked: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    asked = len(baked.calls)
    code, stdout, stderr = run("rebuild", **typed)
    assert (code, stdout, error in stderr) == (2, "", True), stderr
    assert len(baked.calls) == asked


def test_a_name_given_twice_is_one_job(baked: FakeCloud, recipe: str) -> None:
    code, stdout, _ = run("rebuild", recipe=f"{recipe},{recipe}", cloud="local,local", json=True)
    assert (code, len(json.loads(stdout))) == (0, 1)


def test_all_clouds_are_those_in_use(baked: FakeCloud, recipe: str) -> None:
    rows = [json.loads(run("rebuild", recipe=recipe, dry_run=True, json=True, **typed)[1]) for typed in ({}, {"cloud": "all"})]
    assert rows[0] == rows[1]
    assert [row["cloud"] for row in rows[0]] == ["local"]


def test_without_any_cloud_that_can_be_reached_it_fails_and_says_why(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(_name: str | None = None, _given: object = None) -> FakeCloud:
        raise CloudError("no route to host", next_step="Check the network.")

    monkeypatch.setattr(clouds, "connect", connect)
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local")
    assert (code, stdout) == (1, "tiny on local: failed: no route to host\n")
    assert stderr.startswith(
        "tiny on local: failed: no route to host\n  next: Check the network.\nerror: failed: tiny on local\nnext: "
    )


def test_dry_run_says_once_what_is_due(baked: FakeCloud, recipe: str) -> None:
    Path(recipe).write_text(RECIPE.format(name="tiny").replace("true", "false"))
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local", dry_run=True)
    assert (code, stderr) == (0, "")
    why = "the recipe, its files, packages or tests, or Bakehouse itself, have changed since tiny-0.1.0-1"
    assert stdout == f"tiny on local: due: {why}\n"


def test_dry_run_names_the_images_that_would_go(baked: FakeCloud, recipe: str, world: World, tmp_path: Path) -> None:
    Path(recipe).write_text(f"{RECIPE.format(name='tiny')}[rebuild]\nkeep = 1\n")
    bake(baked, load(recipe), BakeOptions(force=True), home=tmp_path / "home")
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local", dry_run=True)
    assert (code, stdout.endswith("; would delete tiny-0.1.0-1\n"), stderr) == (0, True, ""), stdout
    Path(recipe).write_text(Path(recipe).read_text().replace("true", "false"))
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local", dry_run=True, json=True)
    assert json.loads(stdout)[0]["pruned"] == ["tiny-0.1.0-1", "tiny-0.1.0-2"]
    assert sorted(world.images) == ["tiny-0.1.0-1", "tiny-0.1.0-2"]


def test_summary_that_cannot_be_written_is_no_failure(baked: FakeCloud, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "/dev/null/summary.md")
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local")
    assert (code, stdout.startswith("tiny on local: unchanged tiny-")) == (0, True), stderr
    assert "could not write the summary: /dev/null/summary.md: Not a directory" in stderr


def test_a_cleaning_up_that_fails_hides_no_result(baked: FakeCloud, recipe: str) -> None:
    baked.fault("owned", error=DeniedError("not permitted", next_step="Log in."), nth=4)
    code, stdout, stderr = run("rebuild", recipe=recipe, cloud="local")
    assert (code, stdout.startswith("tiny on local: unchanged tiny-")) == (1, True), stderr
    assert "error: could not clean up local: not permitted\nnext: Log in.\n" in stderr
