"""What a base is made of, and its digest."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import Base
from clouds.errors import InvalidError
from clouds.local.base.definition import TEMPLATES, Definition, base_id, define

BASE = Base("trixie", "amd64")


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return Path(shutil.copytree(TEMPLATES, tmp_path / "templates"))


def digest(templates: Path) -> str:
    return Definition(BASE, Path(shutil.which("sh") or "/bin/sh"), templates).digest


def test_digest_does_not_depend_on_the_place(templates: Path) -> None:
    assert digest(templates) == digest(TEMPLATES)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "packages").write_text("nano\n"),
        lambda folder: (folder / "root/etc/new").write_text(""),
        lambda folder: (folder / "root/usr/lib/bakehouse/grow").chmod(0o644),
        lambda folder: (folder / "root/usr/lib/bakehouse/grow").rename(folder / "root/usr/lib/bakehouse/grew"),
    ],
)
def test_digest_changes_with_each_file(templates: Path, change: Callable[[Path], object]) -> None:
    before = digest(templates)
    change(templates)
    assert digest(templates) != before


def test_packages_of_a_recipe_make_another_definition(templates: Path) -> None:
    plain, git, both = (replace(define(BASE), base=replace(BASE, packages=packages)) for packages in ((), ("git",), ("git", "vim")))
    assert len({plain.digest, git.digest, both.digest}) == 3
    assert git.packages == (*plain.packages, "git")
    assert replace(git, base=replace(BASE, packages=("curl",))).packages == plain.packages


def test_sources_are_those_that_the_base_has() -> None:
    sources = define(BASE).sources
    assert "Suites: trixie trixie-updates\n" in sources
    assert "@" not in sources


def test_comments_are_not_packages() -> None:
    packages = define(BASE).packages
    assert "linux-image-cloud-amd64" in packages
    assert all(package and not package.startswith("#") and " " not in package for package in packages)


def test_a_change_for_one_distribution_changes_no_base_of_the_other(templates: Path) -> None:
    before = digest(templates)
    (templates / "ubuntu/packages").write_text("nano\n")
    assert digest(templates) == before
    (templates / "debian/packages").write_text("nano\n")
    assert digest(templates) != before


def test_each_distribution_has_its_own_kernel_and_sources() -> None:
    noble = define(replace(BASE, suite="noble"))
    assert "linux-image-virtual-hwe-24.04" in noble.packages
    assert "linux-image-cloud-amd64" not in noble.packages
    assert "Suites: noble noble-updates\n" in noble.sources
    assert [path for path in noble.files if path.endswith(".sources")] == ["etc/apt/sources.list.d/ubuntu.sources"]


@pytest.mark.parametrize("base", [Base("bookworm", "amd64"), Base("trixie", "arm64")])
def test_base_that_cannot_be_built_says_what_can(base: Base) -> None:
    with pytest.raises(InvalidError, match=base.suite) as raised:
        define(base)
    assert "trixie" in raised.value.next_step


def test_id_changes_with_a_version_of_a_package() -> None:
    assert base_id("d", "a 1\n") == base_id("d", "a 1\n") != base_id("d", "a 2\n")
    assert base_id("d", "a 1\n").startswith("base-")
