"""Which images a rebuild bakes anew, and why; nothing is needed from an earlier run on the same computer."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.rebuild.decide import DAY_S, Versions, decide, decide_all
from bakery.rebuild.jobs import Job
from bakery.rebuild.security import Security, some
from bakery.recipe.recipe import Rebuild, Recipe, Step, load
from bakery.script.render import digest, render, render_tests
from bakery.script.resolve import Resolution
from clouds import names
from clouds.accounts import account_key
from clouds.driver import Base, BaseImage, State, Tell
from clouds.errors import CloudError
from clouds.ledger import Ledger
from clouds.mirrors import Mirrors
from launcher.packages import keep
from launcher.security.updates import Updates
from tests.fake_archive import Archive, deb, serving
from tests.fake_cloud import FakeCloud
from tests.fake_world import Image, World

NOW = 1_800_000_000.0
UNKNOWN = Security(Path("/nonexistent"), Updates(Mirrors()))
"""A computer without lists of packages."""
EQUAL = "its image has the newest recipe, base and packages"
APT = Step(name="tools", apt=("git",))
OLD = Resolution({"packages": ("numpy==2.1.0", "pip==25.0", "six==1.17")}, refreshed="2026-11-01T00:00:00+00:00")
NEW = replace(OLD, pins={"packages": ("numpy==2.2.0", "pip==25.0", "wheel==1.0")}, refreshed="2026-11-27T00:00:00+00:00")


class Known(Versions):
    """Versions without a package index: the newest, and those that this computer has stored."""

    def __init__(self, newest: Resolution, stored: Resolution | None = None) -> None:
        self._given = newest, stored

    def newest(self, recipe: Recipe) -> Resolution:
        return self._given[0]

    def stored(self, recipe: Recipe) -> Resolution | None:
        return self._given[1]


class OneBase(FakeCloud):
    """A cloud that has no newer base."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        return super().resolve_base(base)


@pytest.fixture
def recipe() -> Recipe:
    return replace(load("minimal"), steps=(APT,), rebuild=Rebuild(max_age_days=30))


@pytest.fixture
def cloud(tmp_path: Path) -> FakeCloud:
    return OneBase(World(tmp_path))


def put(cloud: FakeCloud, recipe: Recipe, resolution: Resolution, *, days: float = 1, **labels: str) -> None:
    """Give a cloud the image that a bake has made of a recipe, so many days ago."""
    base = cloud.resolve_base(Base("trixie", "amd64"))
    made = {
        "project": names.PROJECT,
        "role": "image",
        "recipe": recipe.name,
        "version": "0.1.0-3",
        "state": names.STABLE,
        "script": digest(render(recipe, resolution, cloud=cloud.name), render_tests(recipe), base),
        "base": names.base_label(base.id),
        **names.refreshed_label(resolution.refreshed),
        **dict.fromkeys(names.SIZES, "2"),
        **labels,
    }
    cloud.world.images["minimal-0.1.0-3"] = Image(made, {}, NOW - days * DAY_S, State.READY)


def decided(cloud: FakeCloud, recipe: Recipe, versions: Versions) -> tuple[bool, str]:
    found = decide(cloud, recipe, versions, UNKNOWN, now=NOW)
    return found.is_due, found.why


def test_without_a_stable_image_it_is_baked(cloud: FakeCloud, recipe: Recipe) -> None:
    assert decided(cloud, recipe, Known(OLD)) == (True, "no stable image so far")
    put(cloud, recipe, OLD, state=names.CANDIDATE)
    assert decided(cloud, recipe, Known(OLD)) == (True, "no stable image so far")


def test_an_equal_image_is_kept_though_packages_without_a_lock_were_refreshed_since(cloud: FakeCloud, recipe: Recipe) -> None:
    put(cloud, recipe, OLD)
    same = replace(OLD, refreshed=NEW.refreshed)
    told = f"{EQUAL}; security updates were not checked: this computer has no list of its packages"
    assert decided(cloud, recipe, Known(same)) == (False, told)


def test_newer_packages_are_named_where_those_of_the_image_are_known(cloud: FakeCloud, recipe: Recipe) -> None:
    step = replace(load("jupyter").steps[1], name="packages")
    recipe = replace(recipe, steps=(APT, step))
    put(cloud, recipe, OLD)
    told = "packages are newer: numpy 2.1.0 → 2.2.0, six 1.17 → none, wheel none → 1.0"
    assert decided(cloud, recipe, Known(NEW, OLD)) == (True, told)
    due, why = decided(cloud, recipe, Known(NEW))
    assert (due, "have changed since minimal-0.1.0-3" in why) == (True, True)


def test_a_changed_recipe_is_baked(cloud: FakeCloud, recipe: Recipe) -> None:
    put(cloud, recipe, OLD)
    due, why = decided(cloud, replace(recipe, steps=(replace(APT, apt=("git", "vim")),)), Known(OLD, OLD))
    assert (due, "the recipe, its files, packages or tests" in why) == (True, True)


def test_a_newer_base_is_told(cloud: FakeCloud, recipe: Recipe) -> None:
    put(cloud, recipe, OLD, base=names.base_label("base-of-last-month"))
    assert decided(cloud, recipe, Known(OLD)) == (True, "its base is newer than that of minimal-0.1.0-3")


@pytest.mark.parametrize(("days", "is_due"), [(29, False), (31, True)])
def test_an_old_image_is_baked_anew(cloud: FakeCloud, recipe: Recipe, days: int, *, is_due: bool) -> None:
    put(cloud, recipe, OLD, days=days)
    due, why = decided(cloud, recipe, Known(OLD))
    assert due is is_due
    assert not due or why == "minimal-0.1.0-3 is 31 days old (max_age_days = 30)"


def test_a_bake_for_its_age_is_forced_since_an_equal_one_would_be_reused(cloud: FakeCloud, recipe: Recipe, tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text('name = "tiny"\n[[steps]]\nname = "one"\nrun = "true"\n')
    bake(cloud, load(path), BakeOptions(), home=tmp_path)
    for days, is_forced in ((29, False), (31, True)):
        (pair,) = decide_all([Job(str(path), "fake")], lambda _name: cloud, tmp_path, UNKNOWN, now=time.time() + days * DAY_S)
        assert (pair.is_due, pair.job.is_forced, "--force" in pair.job.command) == (is_forced,) * 3


def test_a_time_that_cannot_be_is_that_of_an_image_of_unknown_age(cloud: FakeCloud, recipe: Recipe) -> None:
    put(cloud, recipe, OLD, **{names.REFRESHED: "999999999999"})
    assert decided(cloud, recipe, Known(OLD))[0]


@pytest.fixture
def archive() -> Iterator[Archive]:
    with serving() as archive:
        yield archive


def insecure(cloud: FakeCloud, recipe: Recipe, archive: Archive, home: Path, *, days: float = 1) -> tuple[bool, str]:
    """Decide with the list of an image with openssl 3.5.1 and zlib 1.3 on this computer."""
    put(cloud, recipe, OLD, days=days, bake="bake-1")
    where = "?arch=amd64&distro=trixie"
    listed = [
        {"name": name, "version": of, "purl": f"pkg:deb/debian/{name}@{of}{where}"}
        for name, of in (("openssl", "3.5.1"), ("zlib", "1.3"))
    ]
    assert keep(home, "bake-1", json.dumps({"components": listed}))
    found = decide(cloud, recipe, Known(OLD), Security(home, Updates(archive.mirrors)), now=NOW)
    assert found.is_due == found.is_forced
    return found.is_due, found.why


def test_open_security_updates_are_a_reason(cloud: FakeCloud, recipe: Recipe, archive: Archive, tmp_path: Path) -> None:
    archive.publish("debian/trixie", deb("openssl", "3.5.2"), deb("zlib", "1.2"))
    assert insecure(cloud, recipe, archive, tmp_path) == (True, "security updates: openssl 3.5.1 → 3.5.2")
    assert not [path for path in archive.asked if "debian-security" not in path]


def test_image_with_all_security_updates_is_kept(cloud: FakeCloud, recipe: Recipe, archive: Archive, tmp_path: Path) -> None:
    archive.publish("debian/trixie", deb("openssl", "3.5.1"))
    assert insecure(cloud, recipe, archive, tmp_path) == (False, EQUAL)


def test_without_an_archive_the_age_decides(cloud: FakeCloud, recipe: Recipe, archive: Archive, tmp_path: Path) -> None:
    told = f"{EQUAL}; security updates were not checked: not found on {archive.url.removeprefix('http://')}"
    assert insecure(cloud, recipe, archive, tmp_path) == (False, told)
    assert insecure(cloud, recipe, archive, tmp_path, days=31)[0]


def test_of_many_updates_some_are_named() -> None:
    assert some(["a", "b", "c"]) == "a, b, c"
    assert some(["a", "b", "c", "d", "e"]) == "a, b, c and 2 others"


def test_what_is_wrong_with_one_cloud_affects_no_other(cloud: FakeCloud, tmp_path: Path) -> None:
    def connect(name: str) -> FakeCloud:
        if name == "gcp":
            raise CloudError("no project", next_step="Set it.")
        return cloud

    pairs = decide_all([Job("minimal", name) for name in ("gcp", "fake")], connect, tmp_path, UNKNOWN, now=NOW)
    assert [str(pair) for pair in pairs] == [
        "minimal on gcp: failed: no project\n  next: Set it.",
        "minimal on fake: due: no stable image so far",
    ]
    assert [pair.is_due for pair in pairs] == [False, True]
    assert cloud.world.inventory() == []


@pytest.mark.parametrize(("recipe", "start", "is_due"), [("minimal", "", False), ("minimal", "1", True), ("jupyter", "", True)])
def test_a_recipe_that_is_baking_on_this_computer_is_not_due(
    cloud: FakeCloud, tmp_path: Path, recipe: str, start: str, *, is_due: bool
) -> None:
    labels = {**names.client_labels(), "recipe": recipe, "created": str(int(NOW))}
    labels["client-start"] = start or labels["client-start"]  # else that of another process, which has ended
    Ledger(tmp_path / "ledger.sqlite3").note_bake(account_key(cloud), "bake-1", {"labels": labels})
    (pair,) = decide_all([Job("minimal", "fake")], lambda _name: cloud, tmp_path, UNKNOWN, now=NOW)
    assert (pair.is_due, "bake-1 is baking it now" in str(pair)) == (is_due, not is_due)
