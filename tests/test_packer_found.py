"""Which Packer the tests drive, and whether apt offers one, by the programs in PATH."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks import find_packer, offers_packer


def put(folder: Path, name: str, script: str) -> Path:
    """Put a program into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder / name


def test_packer_with_its_builders_is_taken(tmp_path: Path) -> None:
    program = put(tmp_path, "packer", "echo 1.6.6")
    assert find_packer(str(tmp_path)) == str(program)


@pytest.mark.parametrize("script", ["echo 1.10.0", "echo Packer v1.11.2", "cat; echo 8.0.0 words", "exit 1"])
def test_packer_without_builders_and_other_programs_of_that_name_are_passed_over(tmp_path: Path, script: str) -> None:
    put(tmp_path / "new", "packer", script)
    assert find_packer(str(tmp_path / "new")) is None
    old = put(tmp_path / "old", "packer", "echo 1.9.5")
    assert find_packer(f"{tmp_path / 'new'}{os.pathsep}{tmp_path / 'old'}") == str(old)


@pytest.mark.parametrize(
    ("candidate", "is_offered"),
    [("1.6.6+ds2-1+b1", True), ("1.11.2-1", False), ("(none)", False)],
    ids=["Debian 12", "HashiCorp", "none"],
)
def test_packer_is_asked_for_where_apt_offers_one_with_builders(tmp_path: Path, candidate: str, is_offered: bool) -> None:
    put(tmp_path, "apt-cache", f"printf 'packer:\\n  Installed: (none)\\n  Candidate: {candidate}\\n'")
    assert offers_packer(str(tmp_path)) is is_offered


def test_packer_is_not_asked_for_without_apt(tmp_path: Path) -> None:
    assert not offers_packer(str(tmp_path))
