"""The programs that the local cloud needs, and what is said where they are missing."""

import re
from pathlib import Path

import pytest

from clouds.errors import MissingToolError
from clouds.local.host import namespaces, programs
from clouds.local.host.computer import Computer


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a computer without apt-get and without anything that we need."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(programs, "_SBIN", "/nonexistent")


def test_every_missing_package_is_named_once(bare: None) -> None:
    packages = programs.missing_packages()
    assert "qemu-system-x86" in packages
    assert packages == sorted(set(packages))


def test_without_apt_get_it_says_what_to_install(bare: None) -> None:
    told: list[str] = []
    with pytest.raises(MissingToolError, match="qemu-system-x86") as raised:
        programs.ensure_tools(told.append)
    assert "qemu-system-x86_64" in raised.value.next_step
    assert told == []


def test_right_to_namespaces_that_is_missing_too_is_reported_with_the_packages(
    bare: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "apt-get").write_text("#!/bin/sh")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "is_root", lambda: False)
    monkeypatch.setattr(namespaces, "obstacles", lambda: [("user me has no range", "sudo usermod --add-subuids 1-2 me")])
    with pytest.raises(MissingToolError, match=r"uidmap.*; user me has no range") as raised:
        programs.ensure_tools(lambda _: None)
    assert re.fullmatch(r"Install it: sudo apt-get install .*uidmap && sudo usermod --add-subuids 1-2 me", raised.value.next_step)


def test_root_needs_no_namespaces(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "is_root", lambda: True)
    assert "uidmap" not in programs.missing_packages()


def test_command_installs_without_what_is_merely_recommended() -> None:
    assert programs.install_command(["mtools"]).endswith("apt-get install --no-install-recommends mtools")


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_computer_on_which_it_cannot_run_is_told_why_and_what_instead(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(programs, "this_computer", lambda: Computer(system, machine))
    with pytest.raises(MissingToolError, match=machine) as raised:
        programs.ensure_tools(lambda _: None)
    assert raised.value.next_step
