"""`packages IMAGE --security`: what it prints and how it ends, with an archive and a PyPI on this computer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from clouds import mirrors
from clouds.home import home
from launcher.packages import keep
from launcher.security import pypi
from tests.cli.verbs import run
from tests.fake_archive import Archive, deb, serving
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image

PURLS = {
    "deb": "pkg:deb/debian/{0}@{1}?arch=amd64&distro=trixie&upstream={0}%40{1}",
    "pypi": "pkg:pypi/{0}@{1}",
    "conda": "pkg:conda/{0}@{1}?build=0",
}


@pytest.fixture
def archive(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    """Give an archive without updates, and let verbs use it."""
    with serving() as archive:
        archive.publish("debian/trixie")
        monkeypatch.setattr(mirrors, "host_mirrors", lambda: archive.mirrors)
        monkeypatch.setattr(pypi, "ADDRESS", archive.pypi)
        yield archive


def image_of(world: World, *packages: tuple[str, str, str]) -> str:
    """Put an image with packages: type, name and version of each."""
    image = put_image(world, "jupyter", "1.4.0-7")
    world.images[image].labels["bake"] = "bake-1"
    one = [{"name": name, "version": of, "purl": PURLS[kind].format(name, of)} for kind, name, of in packages]
    assert keep(home(), "bake-1", json.dumps({"components": one}))
    return image


def test_packages_that_lack_a_fix_are_listed_and_fail(world: World, archive: Archive) -> None:
    archive.publish("debian/trixie", deb("openssl", "3.5.1-1+deb13u1"), deb("curl", "8"))
    archive.put_python("jinja2", "3.1.2", {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fixed_in": ["3.1.5"]})
    image = image_of(world, ("deb", "curl", "8"), ("deb", "openssl", "3.5.1-1"), ("pypi", "jinja2", "3.1.2"), ("conda", "r", "4"))
    code, stdout, stderr = run("packages", image=image, security=True)
    assert (code, stdout.splitlines(), stderr.splitlines()) == (
        1,
        [
            "TYPE  NAME     INSTALLED  FIXED IN         VULNERABILITY",
            "deb   openssl  3.5.1-1    3.5.1-1+deb13u1",
            "pypi  jinja2   3.1.2      3.1.5            PYSEC-2026-1, CVE-2026-1",
        ],
        [
            "not checked: 1 of type conda: no list of their vulnerabilities",
            "error: 2 packages of image 'jupyter-1.4.0-7' lack a security fix (checked: 2 of type deb and 1 of type pypi)",
            "next: Bake it anew: ./inv bake --recipe jupyter --refresh",
        ],
    )


def test_an_image_with_all_fixes_succeeds_though_conda_is_not_checked(world: World, archive: Archive) -> None:
    image = image_of(world, ("deb", "curl", "8"), ("conda", "r", "4"))
    code, stdout, stderr = run("packages", image=image, security=True)
    assert (code, stdout) == (0, "")
    assert stderr.endswith("no package of image 'jupyter-1.4.0-7' is known to lack a security fix (checked: 1 of type deb)\n")


def test_what_could_not_be_checked_fails(world: World, archive: Archive) -> None:
    archive.statuses["/debian-security/dists/trixie-security/InRelease"] = 500
    image = image_of(world, ("deb", "curl", "8"), ("pypi", "jinja2", "3.1.2"))
    code, stdout, stderr = run("packages", image=image, security=True)
    server = archive.url.removeprefix("http://")
    assert (code, stdout, stderr.splitlines()[:3]) == (
        1,
        "",
        [
            f"not checked: 1 of type deb: {server} answered with status 500",
            f"not checked: 1 of type pypi: not found on {server}, which may be a mirror without PyPI's API for vulnerabilities, "
            "as it has none of these packages",
            "error: not all packages of image 'jupyter-1.4.0-7' could be checked (checked: none)",
        ],
    )
    assert "next: Check the network" in stderr


def test_json_has_what_was_checked_and_what_was_not(world: World, archive: Archive) -> None:
    archive.publish("debian/trixie", deb("openssl", "2"))
    image = image_of(world, ("deb", "openssl", "1"), ("conda", "r", "4"))
    code, stdout, stderr = run("packages", image=image, security=True, json=True)
    assert "error: 1 package of image 'jupyter-1.4.0-7' lacks a security fix" in stderr
    assert (code, json.loads(stdout)) == (
        1,
        {
            "lacks": [{"type": "deb", "name": "openssl", "installed": "1", "fixed": ["2"], "ids": []}],
            "checked": {"deb": 1},
            "not_checked": [{"type": "conda", "packages": 1, "why": "no list of their vulnerabilities", "failed": False}],
        },
    )


def test_cyclonedx_of_the_security_state_is_refused(archive: Archive) -> None:
    assert run("packages", image="jupyter-1.4.0-7", security=True, cdx=True)[0] == 2
    assert archive.asked == []
