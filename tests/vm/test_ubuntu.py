"""Ubuntu as the base of a recipe: built from its archive, baked, launched; where the archive cannot be reached, one line says so.

It costs two minutes on two cores without KVM: fifty seconds for the base, the rest for the bake and the launch.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from clouds.mirrors import host_mirrors
from tests.vm.bakehouse import PROJECT, Bakehouse

pytestmark = [pytest.mark.vm, pytest.mark.long]


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    """Give `minimal` on Ubuntu, with a package of its archive."""
    text = (PROJECT / "images/minimal.toml").read_text(encoding="utf-8").replace('"minimal"', '"noble"')
    path = tmp_path / "noble.toml"
    path.write_text(f'{text}\n[base]\nsuite = "noble"\n[[steps]]\nname = "hello"\napt = ["hello"]\n', encoding="utf-8")
    return str(path)


def is_reached(url: str) -> bool:
    """Return whether the archive at a URL has the suite."""
    try:
        with urllib.request.urlopen(f"{url}/dists/noble/InRelease", timeout=30) as response:
            return bool(response.read(1))
    except (urllib.error.URLError, TimeoutError):
        return False


def test_ubuntu_is_baked_and_launched_or_its_archive_is_named(bakehouse: Bakehouse, recipe: str) -> None:
    if not is_reached(host_mirrors().ubuntu):
        refused = bakehouse.run("bake", "--recipe", recipe, timeout_s=1200)
        assert refused.status == 1
        [told] = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
        assert host_mirrors().ubuntu in told
        return
    image = bakehouse.must("bake", "--recipe", recipe, "--json", timeout_s=1800).result["image"]
    bakehouse.must("launch", "--recipe", recipe, "--name", "noble")
    try:
        command = (
            ". /etc/os-release && echo $VERSION_CODENAME && hello --greeting=here && cat /etc/apt/sources.list.d/ubuntu.sources"
        )
        release, greeting, *sources = bakehouse.must("ssh", "noble", "--", command).stdout.splitlines()
        failed = bakehouse.must("ssh", "noble", "--", "sudo systemctl list-units --failed --plain --no-legend").stdout
    finally:
        bakehouse.must("delete", "noble", "--yes")
    bakehouse.must("delete-image", image, "--yes")
    assert (release, greeting, failed) == ("noble", "here", "")
    assert [line for line in sources if line.startswith("URIs:")] == [
        "URIs: http://archive.ubuntu.com/ubuntu",
        "URIs: http://security.ubuntu.com/ubuntu",
    ]
