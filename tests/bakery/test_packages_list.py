"""The list of packages that the seal writes into an image: its program runs here, on a disk of the test."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bakery.recipe.recipe import load
from bakery.script.render import render
from bakery.script.resolve import Resolution
from launcher.packages import IN_IMAGE, Package, parse

PROGRAM = re.compile(rf"^python3 - >{re.escape(IN_IMAGE)} <<'PYTHON'\n(.*?)^PYTHON$", re.MULTILINE | re.DOTALL)
STATUS = """\
Package: libc6
Status: install ok installed
Architecture: amd64
Multi-Arch: same
Source: glibc
Version: 2.41-12

Package: libc6
Status: install ok installed
Architecture: i386
Multi-Arch: same
Source: glibc
Version: 2.41-12

Package: g++
Status: install ok installed
Architecture: amd64
Source: gcc-defaults (1.220)
Version: 4:14.2.0-1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1.0
"""
ENVIRONMENT = "opt/notebook/lib/python3.13/site-packages"


def lists(disk: Path) -> str:
    """Run the program on a disk, and return what it prints."""
    [program] = PROGRAM.findall(render(load("minimal"), Resolution({})).text)
    moved = program.replace('"find", "/"', f'"find", "{disk}"').replace('"/usr/lib/python3/*"', f'"{disk}/usr/lib/python3/*"')
    assert moved.count(str(disk)) == 2
    admin = disk / "var/lib/dpkg"
    admin.mkdir(parents=True, exist_ok=True)
    (admin / "status").write_text(STATUS)
    environment = os.environ | {"DPKG_ADMINDIR": str(admin)}
    return subprocess.run([sys.executable, "-"], input=moved, env=environment, capture_output=True, text=True, check=True).stdout


def put(disk: Path, path: str, *, installer: str = "") -> None:
    """Put a distribution of Python or a record of conda on a disk."""
    if path.endswith(".json"):
        (disk / path).parent.mkdir(parents=True, exist_ok=True)
        (disk / path).touch()
        return
    (disk / path).mkdir(parents=True)
    if installer:
        (disk / path / "INSTALLER").write_text(f"{installer}\n")


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Give a disk with packages of each kind, and what must not be listed as a package."""
    put(tmp_path, f"{ENVIRONMENT}/xgboost_cpu-3.0.2.dist-info", installer="uv")
    put(tmp_path, f"{ENVIRONMENT}/setuptools-80.9.0.dist-info")
    put(tmp_path, f"{ENVIRONMENT}/setuptools/_vendor/wheel-0.45.1.dist-info")
    put(tmp_path, "home/notebook/own env/lib/python3.13/site-packages/torch-2.8.0+cu126.dist-info", installer="pip")
    put(tmp_path, "usr/local/lib/python3.13/dist-packages/Own.Tool-1!2.0.dist-info")
    put(tmp_path, "usr/lib/python3/dist-packages/pyyaml-6.0.2.dist-info")
    put(tmp_path, "opt/conda/conda-meta/scikit-learn-1.7.1-py312h7a9c478_0.json")
    put(tmp_path, "opt/conda/conda-meta/history.json")
    put(tmp_path, "opt/conda/lib/python3.12/site-packages/scikit_learn-1.7.1.dist-info", installer="conda")
    return tmp_path


def test_packages_of_debian_python_and_conda_are_listed(disk: Path) -> None:
    system = platform.freedesktop_os_release()
    suite = f"{system['ID']}/{system['VERSION_CODENAME']}"
    assert parse(lists(disk)) == [
        Package("deb", "g++", "4:14.2.0-1", source="gcc-defaults@1.220", arch="amd64", suite=suite),
        Package("deb", "libc6", "2.41-12", source="glibc@2.41-12", arch="amd64", suite=suite),
        Package("deb", "libc6", "2.41-12", source="glibc@2.41-12", arch="i386", suite=suite),
        Package("pypi", "torch", "2.8.0+cu126", location=f"{disk}/home/notebook/own env/lib/python3.13/site-packages"),
        Package("conda", "scikit-learn", "1.7.1", location=f"{disk}/opt/conda/conda-meta"),
        Package("pypi", "setuptools", "80.9.0", location=f"{disk}/{ENVIRONMENT}"),
        Package("pypi", "xgboost-cpu", "3.0.2", location=f"{disk}/{ENVIRONMENT}"),
        Package("pypi", "own-tool", "1!2.0", location=f"{disk}/usr/local/lib/python3.13/dist-packages"),
    ]


def test_the_list_is_cyclonedx_and_the_same_each_time(disk: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from packageurl import PackageURL

    text = lists(disk)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert lists(disk) == text
    for component in json.loads(text)["components"]:
        purl = PackageURL.from_string(component["purl"])
        assert (purl.name, purl.version) == (component["name"], component["version"])
        if purl.type == "deb":
            assert purl.namespace == platform.freedesktop_os_release()["ID"]
            assert {"arch", "distro", "upstream"} == set(purl.qualifiers)
