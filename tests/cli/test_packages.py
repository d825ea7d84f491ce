"""The verbs `packages` and `diff`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import load
from clouds.home import home
from launcher.packages import IN_IMAGE, keep
from tests.cli.verbs import run
from tests.fake_cloud import PACKAGES, SEALED, FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image


def listed(world: World, version: str, **versions: str) -> str:
    """Put an image with these packages of Debian."""
    image = put_image(world, "jupyter", version)
    world.images[image].labels["bake"] = f"bake-{version}"
    one = [{"name": name, "version": of, "purl": f"pkg:deb/debian/{name}@{of}"} for name, of in versions.items()]
    assert keep(home(), f"bake-{version}", json.dumps({"components": one}))
    return image


def test_packages_of_an_image_that_was_baked_here(cloud: FakeCloud) -> None:
    image = bake(cloud, load("minimal"), BakeOptions(), home=home()).image
    assert run("packages", image=image) == (0, "TYPE  NAME  VERSION\ndeb   curl  8.14.1-2\n", "")
    code, stdout, _ = run("packages", image=image, json=True)
    assert (code, json.loads(stdout)) == (0, [{"type": "deb", "name": "curl", "version": "8.14.1-2", "source": "curl@8.14.1-2"}])
    assert run("packages", image=image, cdx=True) == (0, f"{PACKAGES.decode()}\n", "")


def test_image_that_was_checked_again_has_its_packages(cloud: FakeCloud, tmp_path: Path) -> None:
    cloud.fault("files", error=OSError("no such disk"))
    assert run("bake", recipe="minimal")[0] == 1
    assert run("bake", recipe="minimal")[0] == 0
    [image] = cloud.world.images
    assert run("packages", image=image)[0] == 0


def test_bake_says_that_an_image_has_no_list(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SEALED, IN_IMAGE, b"{")
    code, _, stderr = run("bake", recipe="minimal")
    assert code == 0
    assert f"image 'minimal-0.1.0-1' has no list of its packages ({IN_IMAGE})" in stderr


def test_packages_of_an_image_from_elsewhere_are_to_be_had_over_ssh(cloud: FakeCloud, world: World) -> None:
    code, stdout, stderr = run("packages", image=put_image(world, "jupyter", "1.4.0-7"))
    assert (code, stdout) == (1, "")
    assert f"./inv ssh NAME -- cat {IN_IMAGE}" in stderr


def test_packages_in_two_forms_at_once_are_refused(cloud: FakeCloud) -> None:
    assert run("packages", image="jupyter-1.4.0-7", json=True, cdx=True)[0] == 2
    assert cloud.calls == []


def test_diff_lists_what_has_changed(cloud: FakeCloud, world: World) -> None:
    old, new = listed(world, "1.4.0-7", curl="8.1", gone="1"), listed(world, "1.4.0-8", curl="8.2")
    code, stdout, _ = run("diff", old=old, new=new)
    assert (code, stdout.splitlines()) == (
        0,
        ["CHANGE   TYPE  NAME  OLD  NEW", "up       deb   curl  8.1  8.2", "removed  deb   gone  1"],
    )
    assert json.loads(run("diff", old=old, new=new, json=True)[1])[0] == {
        "change": "up",
        "type": "deb",
        "name": "curl",
        "old": "8.1",
        "new": "8.2",
    }
    assert run("diff", old=old, new=old) == (0, "", "the same packages\n")
    assert run("diff", old=old, new=old, json=True)[1] == "[]\n"
