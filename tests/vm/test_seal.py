"""Secrets planted on the disk of a real image, each found from outside."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from bakery.proof.seal import find_leaks
from clouds.local import connect
from tests.planted import PLANTED
from tests.vm.bakehouse import Bakehouse

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def leaks(bakehouse: Bakehouse, minimal: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Give what is found on a copy of the disk of `minimal` on which all the secrets were planted."""
    scratch = tmp_path_factory.mktemp("disk")
    files = connect(bakehouse.home).files(minimal["image"], scratch)
    [disk] = scratch.glob("*.raw")
    for planted in PLANTED.values():
        plant(disk, planted.path, planted.content, scratch / "secret")
    return [str(found) for found in find_leaks(files, scratch)]


def plant(disk: Path, path: str, content: bytes, scratch: Path) -> None:
    """Write a file onto a filesystem that is not mounted."""
    scratch.write_bytes(content)
    folders = [str(folder) for folder in reversed(Path(path).parents)][1:]
    commands = [*(f"mkdir {folder}" for folder in folders), f"rm {path}", f"write {scratch} {path}"]
    subprocess.run(["debugfs", "-w", "-f", "-", str(disk)], input="\n".join(commands), text=True, capture_output=True, check=True)


@pytest.mark.parametrize("secret", PLANTED)
def test_a_planted_secret_is_found(leaks: list[str], secret: str) -> None:
    assert [leak for leak in leaks if leak.startswith(PLANTED[secret].told)]


def test_an_image_as_baked_holds_none(bakehouse: Bakehouse, minimal: dict[str, Any], tmp_path: Path) -> None:
    assert find_leaks(connect(bakehouse.home).files(minimal["image"], tmp_path), tmp_path) == []
