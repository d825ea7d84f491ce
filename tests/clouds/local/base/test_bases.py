"""The store of bases: with packages of a recipe, and without where they cannot be installed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from clouds.capabilities import InstallsInBases
from clouds.driver import Base, BaseImage
from clouds.errors import CloudError, DeniedError, HostFullError, InvalidError
from clouds.local.base import build
from clouds.local.base.bases import Bases
from clouds.local.base.build import Built
from clouds.local.base.definition import Definition
from clouds.local.base.esp import DISK_MB
from clouds.local.driver import LocalCloud
from clouds.local.host import files

PLAIN = Base("trixie", "amd64")
GIT = replace(PLAIN, packages=("git",))
BROKEN = CloudError("mmdebstrap: E: Unable to locate package git; E: setup failed: E: apt-get -o A=B install git failed")
OFFLINE = CloudError("mmdebstrap: E: Failed to fetch http://m.example/git.deb; E: Unable to fetch some archives")


@dataclass
class Builds:
    """What takes the place of the build: the packages of each build, and the error of those that have any."""

    done: list[tuple[str, ...]] = field(default_factory=list)
    error: CloudError | None = None
    said: list[str] = field(default_factory=list)

    def build(self, definition: Definition, scratch: Path, tell: object) -> Built:
        self.done.append(definition.base.packages)
        if self.error and definition.base.packages:
            raise self.error
        header = bytearray(32)
        header[24:32] = (3 * 2**30 + 1).to_bytes(8, "big")
        (scratch / "disk.qcow2").write_bytes(header)
        return Built("\n".join(definition.packages))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    made = Builds()
    monkeypatch.setattr("clouds.local.base.build.build", made.build)
    return made


@pytest.fixture
def store(tmp_path: Path) -> Bases:
    return Bases(tmp_path / "bases")


def resolve(store: Bases, base: Base, builds: Builds, *, refresh: bool = False) -> BaseImage:
    return store.resolve(base, refresh=refresh, tell=builds.said.append)


def test_only_the_base_with_the_packages_is_built_and_kept(store: Bases, builds: Builds) -> None:
    assert store.kept(GIT) is None
    made = resolve(store, GIT, builds)
    assert made == resolve(store, GIT, builds) == store.kept(GIT)
    assert (made.base, made.disk_gb) == (GIT, 4)
    assert builds.done == [("git",)]
    plain = resolve(store, PLAIN, builds)
    assert (plain.base, plain.disk_gb) == (PLAIN, 0)
    assert plain.id != made.id
    assert store.kept(replace(PLAIN, packages=("vim",))) is None


def test_base_without_packages_takes_the_place_of_one_that_cannot_be_built(store: Bases, builds: Builds) -> None:
    builds.error = BROKEN
    made = resolve(store, GIT, builds)
    assert made == resolve(store, PLAIN, builds) == store.kept(GIT) == resolve(store, GIT, builds)
    assert builds.done == [("git",), ()]
    why = "mmdebstrap: E: Unable to locate package git"
    assert builds.said == [f"base: could not install the packages of the recipe, a builder will install them ({why})"]
    assert store.kept(replace(PLAIN, packages=("vim",))) is None


def test_refresh_tries_to_install_them_again(store: Bases, builds: Builds) -> None:
    builds.error = BROKEN
    resolve(store, GIT, builds)
    builds.error = None
    assert resolve(store, GIT, builds, refresh=True).base == GIT


@pytest.mark.parametrize("error", [OFFLINE, HostFullError("the disk is full")])
def test_next_bake_tries_again_where_the_network_or_the_disk_was_the_cause(store: Bases, builds: Builds, error: CloudError) -> None:
    plain = resolve(store, PLAIN, builds)
    builds.error = error
    assert resolve(store, GIT, builds) == plain
    assert store.kept(GIT) is None
    builds.error = None
    assert resolve(store, GIT, builds).base == GIT


def test_error_of_a_computer_that_can_build_no_base_is_raised(store: Bases, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(definition: Definition, scratch: Path, tell: object) -> Built:
        raise DeniedError("no namespaces", next_step="a command")

    monkeypatch.setattr("clouds.local.base.build.build", refused)
    with pytest.raises(DeniedError):
        store.resolve(GIT, refresh=False, tell=print)
    with pytest.raises(InvalidError):
        store.resolve(replace(GIT, suite="bookworm"), refresh=False, tell=print)


def test_old_bases_with_packages_are_removed_and_the_newest_without_stays(store: Bases, builds: Builds) -> None:
    made = [resolve(store, base, builds).id for base in (PLAIN, GIT, replace(PLAIN, packages=("vim",)))]
    for name in made:
        record = files.read_json(store.folder / name / "base.json")
        assert record
        files.write_json(store.folder / name / "base.json", {**record, "checked_at": 1.0})
    store.prune({made[1]})
    assert [store.path(name) is not None for name in made] == [True, True, False]


def test_driver_says_that_its_bases_may_have_packages(tmp_path: Path) -> None:
    assert isinstance(LocalCloud(tmp_path), InstallsInBases)


@pytest.mark.parametrize(("tree_mb", "expected_mb"), [(600, DISK_MB), (1400, DISK_MB), (4000, 5512)])
def test_disk_has_room_for_the_packages(tree_mb: int, expected_mb: int) -> None:
    assert build.disk_mb(tree_mb * 2**20) == expected_mb
