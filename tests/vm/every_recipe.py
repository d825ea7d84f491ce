"""Each recipe of images/: baked without layers, launched, tested; the figures go into docs/machines.md. For `./inv test --recipes`.

That takes hours without KVM, so no other run collects this file: its name does not begin with `test_`.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from bakery.recipe.recipe import available
from tests.vm.bakehouse import PROJECT, Bakehouse

pytestmark = pytest.mark.vm

PAGE = PROJECT / "docs/machines.md"
BAKE_S, CHECK_S = 8 * 3600, 2 * 3600
"""Longer than any bake and any check of a machine, in seconds."""


PYPI = """
name = "research-pypi"
base.suite = "noble"
builder = { cpus = 2, memory_mb = 8192, disk_gb = 20, deadline_min = 60 }
machine = { cpus = 2, memory_mb = 8192 }

[[steps]]
name = "java"
in_base = true
apt = ["openjdk-17-jre-headless"]

[[steps]]
name = "science"
[steps.python]
packages = [
    "jupyterlab",
    "pip",
    "ipywidgets",
    "pandas",
    "matplotlib",
    "seaborn",
    "scikit-learn",
    "tensorflow-cpu",
    "keras",
    "h2o",
    "scikit-optimize",
    "numpy<2.4", # scikit-optimize 0.10 fails with 2.4
]

[[steps]]
name = "notebook"
notebook = {}
"""
"""The libraries of `research` from PyPI, and Java from Ubuntu: shows that its tests pass where conda-forge cannot be reached."""


@pytest.mark.parametrize("name", available())
def test_it_is_baked_launched_and_tested(bakehouse: Bakehouse, name: str) -> None:
    measure(bakehouse, name, name)


def test_research_with_packages_of_pypi(bakehouse: Bakehouse, tmp_path: Path) -> None:
    _steps, mark, tests = (PROJECT / "images/research.toml").read_text(encoding="utf-8").partition("[[tests]]")
    recipe = tmp_path / "research-pypi.toml"
    recipe.write_text(PYPI + mark + tests.replace("/opt/conda/bin/", ""), encoding="utf-8")
    measure(bakehouse, str(recipe), "research-pypi")


def measure(bakehouse: Bakehouse, recipe: str, name: str) -> None:
    """Bake a recipe, launch it, run its tests on the machine, and write the figures into its row."""
    bake = bakehouse.must("bake", "--recipe", recipe, "--no-cache", "--json", timeout_s=BAKE_S)
    baked, base_s = bake.result, sum(map(int, re.findall(r"base: built \((\d+) s\)", bake.stdout)))
    try:
        launched = bakehouse.must("launch", "--recipe", recipe, "--name", "measured", "--json").result
        checked = bakehouse.run("check-machine", "measured", timeout_s=CHECK_S)
    finally:
        deleted = bakehouse.run("delete", "measured", "--yes")
    assert deleted.status == 0, deleted.stderr
    assert checked.status == 0, checked.stdout + checked.stderr
    tests = ", ".join(f"{count} {outcome}" for outcome, count in Counter(re.findall(r"^\w+", checked.stdout, re.MULTILINE)).items())
    [image] = [one for one in bakehouse.must("images", "--json").result if one["name"] == baked["image"]]
    disk = _bytes(bakehouse.home / "local/images" / baked["image"]) - image["memory_bytes"]
    bakehouse.must("delete-image", baked["image"], "--yes")
    megabytes = f"{disk / 1e6:.0f} | {image['memory_bytes'] / 1e6:.0f}"
    figures = f"{baked['seconds'] - base_s:.0f} | {megabytes} | {launched['seconds']:.1f} | {tests}"
    PAGE.write_text(with_figures(PAGE.read_text(encoding="utf-8"), name, figures), encoding="utf-8")


def with_figures(page: str, name: str, figures: str) -> str:
    """Return the page with the figures of a recipe in its row, which must be there."""
    new, count = re.subn(rf"^\| `{name}` \|.*$", lambda _match: f"| `{name}` | {figures} |", page, flags=re.MULTILINE)
    assert count == 1, f"{PAGE} has {count} rows of {name}"
    return new


def _bytes(folder: Path) -> int:
    """Return how many bytes the files of an image take on the disk; its base is not among them."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
