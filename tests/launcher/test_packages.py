"""The packages of images: what is kept, what differs, and what is said of images whose list is elsewhere."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.errors import CloudError, NotFoundError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.images import delete_image, find_image
from launcher.packages import Change, Package, diff, forget, keep, parse, read
from tests.fake_cloud import PACKAGES, FakeCloud
from tests.fake_world import World

LIST = PACKAGES.decode()


def test_kept_list_is_read_and_removed_with_its_image(fake: FakeCloud, world: World, ledger: Ledger, jupyter: str) -> None:
    world.images[jupyter].labels["bake"] = "bake-1"
    assert keep(home(), "bake-1", LIST)
    assert read(home(), find_image(fake, recipe="", name=jupyter)) == LIST
    [kept] = (home() / "packages").iterdir()
    assert kept.stat().st_mode & 0o777 == 0o600
    delete_image(fake, ledger, jupyter)
    assert not kept.exists()
    forget(home(), "bake-1")


def test_list_that_is_elsewhere_is_to_be_had_over_ssh(fake: FakeCloud, jupyter: str) -> None:
    with pytest.raises(NotFoundError, match=r"list of the packages of image 'jupyter-1.4.0-7' on fake found here") as raised:
        read(home(), find_image(fake, recipe="", name=jupyter))
    assert raised.value.next_step.endswith("./inv ssh NAME -- cat /usr/lib/bakehouse/packages.cdx.json")


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"components": [{}]}', '{"components": [1]}', "[" * 10**5])
def test_what_is_no_list_is_not_kept(fake: FakeCloud, jupyter: str, text: str) -> None:
    assert not keep(home(), "bake-1", text)
    assert not (home() / "packages").exists()


def test_damaged_list_is_said(fake: FakeCloud, world: World, jupyter: str) -> None:
    world.images[jupyter].labels["bake"] = "../x"
    assert keep(home(), "../x", LIST)
    [kept] = (home() / "packages").iterdir()
    kept.write_bytes(b"\xff")
    with pytest.raises(CloudError, match=r"list of packages of image 'jupyter-1.4.0-7' on fake is damaged"):
        read(home(), find_image(fake, recipe="", name=jupyter))


def debs(**versions: str) -> list[Package]:
    return [Package("deb", name, version) for name, version in versions.items()]


def test_what_differs_is_added_removed_up_or_down() -> None:
    old = debs(same="1", gone="1", up="1:1.0~rc1-1", down="2.10-1")
    new = debs(same="1", new="1", up="1:1.0-1", down="2.9-1+deb13u1")
    assert diff(old, new) == [
        Change("down", "deb", "down", "2.10-1", "2.9-1+deb13u1"),
        Change("removed", "deb", "gone", "1"),
        Change("added", "deb", "new", "", "1"),
        Change("up", "deb", "up", "1:1.0~rc1-1", "1:1.0-1"),
    ]


@pytest.mark.parametrize(
    ("type_", "old", "new", "change"),
    [
        ("pypi", "1.0rc1", "1.0", "up"),
        ("pypi", "1.10", "1.9", "down"),
        ("pypi", "1.0", "1.0.0", "changed"),
        ("pypi", "odd", "1.0", "changed"),
        ("deb", "1.0", "odd_", "changed"),
        ("conda", "1.1a1", "1.1", "up"),
        ("conda", "2026b", "2026a", "down"),
        ("conda", "!!", "1", "changed"),
    ],
)
def test_versions_are_compared_by_the_rules_of_their_package(type_: str, old: str, new: str, change: str) -> None:
    found = diff([Package(type_, "one", old)], [Package(type_, "one", new)])
    assert [(one.change, one.old, one.new) for one in found] == [(change, old, new)]


def test_packages_of_several_environments_are_compared_the_highest_first() -> None:
    def numpy(*versions: str) -> list[Package]:
        return [Package("pypi", "numpy", version, location=f"/opt/{version}") for version in versions]

    assert diff(numpy("1.26.4", "2.1.0"), numpy("1.26.4", "2.1.0")) == []
    assert diff(numpy("1.26.4", "2.1.0"), numpy("2.3.1", "1.26.4")) == [Change("up", "pypi", "numpy", "2.1.0", "2.3.1")]
    assert diff(numpy("2.1.0"), numpy("1.26.4", "2.3.1")) == [
        Change("up", "pypi", "numpy", "2.1.0", "2.3.1"),
        Change("added", "pypi", "numpy", "", "1.26.4"),
    ]


versions = st.from_regex(r"(0:)?[0-9]([0-9a-z.+~]{0,5}[0-9a-z])?(-[0-9a-z.+~]{0,3}[0-9a-z])?", fullmatch=True)
"""Those that Debian has: debian-inspector takes none that ends with a punctuation mark."""


@pytest.mark.program
@given(versions, versions)
def test_debian_versions_are_compared_as_dpkg_does(old: str, new: str) -> None:
    found = [change.change for change in diff(debs(one=old), debs(one=new))]
    asked = {
        change: subprocess.run(["dpkg", "--compare-versions", old, relation, new], check=False).returncode == 0
        for change, relation in (("up", "lt"), ("down", "gt"), ("changed", "eq"))
    }
    assert found == ([] if old == new else [change for change, holds in asked.items() if holds])


def test_list_of_json_has_only_what_is_known() -> None:
    [package] = parse(LIST)
    assert package.to_json() == {"type": "deb", "name": "curl", "version": "8.14.1-2", "source": "curl@8.14.1-2"}
    assert json.loads(json.dumps(package.to_json()))


def test_list_of_an_odd_long_label_is_removed(tmp_path: Path) -> None:
    assert keep(tmp_path, "9" * 300, LIST)
    forget(tmp_path, "9" * 300)
    assert list(tmp_path.rglob("*.json")) == []


def test_path_of_a_list_stays_in_its_folder(tmp_path: Path) -> None:
    assert keep(tmp_path, "../../x", LIST)
    assert [path.parent for path in tmp_path.rglob("*.json")] == [tmp_path / "packages"]
