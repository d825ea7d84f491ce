"""Computers that the local cloud cannot use as they are: one line that says why, and one that says what to use instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clouds.errors import MissingToolError
from clouds.local.host import programs
from clouds.local.host.computer import Computer, is_wsl, parse_release, this_computer

# The texts are those of the distributions' files, shortened.
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_ID="12"\nID=debian\n'
UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.1 LTS"\nID=ubuntu\nID_LIKE=debian\n'
MINT = 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
FEDORA = 'NAME="Fedora Linux"\nID=fedora\nPRETTY_NAME="Fedora Linux 43 (Workstation Edition)"\n# a comment\n'
ARCH = 'NAME="Arch Linux"\nPRETTY_NAME="Arch Linux"\nID=arch\n'
MANJARO = "NAME='Manjaro Linux'\nID=manjaro\nID_LIKE=arch\n"
SUSE = 'NAME="openSUSE Tumbleweed"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\nPRETTY_NAME="openSUSE Tumbleweed"\n'
WSL = "Linux version 5.15.133.1-microsoft-standard-WSL2 (root@1c602f52c2e4) (gcc (GCC) 11.2.0)"


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Stand for a computer without any program of ours, but with an apt-get, which Fedora and Arch have as a package."""
    (tmp_path / "apt-get").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_SBIN", "/nonexistent")
    monkeypatch.setattr(
        programs, "TOOLS", {f"no-{tool}" if tool.startswith("/") else tool: name for tool, name in programs.TOOLS.items()}
    )
    return tmp_path


def linux(release: str, kernel: str = "") -> Computer:
    return Computer("Linux", "x86_64", parse_release(release), kernel)


def refused(this: Computer) -> tuple[str, str]:
    with pytest.raises(MissingToolError) as raised:
        programs.check_computer(this)
    assert "\n" not in raised.value.message + raised.value.next_step
    return raised.value.message, raised.value.next_step


@pytest.mark.parametrize(
    ("system", "machine", "named", "instead"),
    [
        ("Darwin", "arm64", "macOS on arm64", "images are for amd64"),
        ("Darwin", "x86_64", "macOS on x86_64", "Lima"),
        ("Linux", "aarch64", "Linux on aarch64", "images are for amd64"),
        ("Linux", "riscv64", "Linux on riscv64", "images are for amd64"),
        ("FreeBSD", "amd64", "FreeBSD on amd64", "virtual machine"),
        ("Windows", "AMD64", "Windows on AMD64", "WSL 2"),
    ],
)
def test_other_systems_and_processors_are_refused(system: str, machine: str, named: str, instead: str) -> None:
    message, step = refused(Computer(system, machine))
    assert message == f"the local cloud needs Linux on x86-64; this computer runs {named}"
    assert "--cloud gcp" in step
    assert instead in step


@pytest.mark.parametrize("release", [DEBIAN, UBUNTU, MINT, ""], ids=["Debian", "Ubuntu", "Mint", "unknown"])
def test_debian_and_its_descendants_install_what_is_missing_later(bare: Path, release: str) -> None:
    programs.check_computer(linux(release))


@pytest.mark.parametrize(
    ("release", "name", "command"),
    [
        (
            FEDORA,
            "Fedora Linux 43 (Workstation Edition)",
            "Run: sudo dnf install mmdebstrap mtools openssh-clients qemu-img qemu-system-x86; ",
        ),
        (ARCH, "Arch Linux", "Install with your package manager: mmdebstrap, newuidmap, sfdisk, "),
        (MANJARO, "manjaro", "Run: sudo pacman -S mtools openssh qemu-img qemu-system-x86; "),
        (SUSE, "openSUSE Tumbleweed", "Install with your package manager: qemu-system-x86_64, qemu-img, mmdebstrap"),
    ],
)
def test_other_distributions_name_what_is_missing_and_never_apt_get(
    bare: Path, monkeypatch: pytest.MonkeyPatch, release: str, name: str, command: str
) -> None:
    monkeypatch.setattr(programs, "is_root", lambda: False)
    message, step = refused(linux(release))
    assert message.startswith("not installed: qemu-system-x86_64, qemu-img, mmdebstrap, newuidmap, ")
    assert message.endswith(f"Bakehouse cannot install them on {name}")
    assert command in step
    assert "apt-get" not in step
    assert "Debian virtual machine or container" in step
    assert "--cloud gcp" in step


def test_arch_names_the_package_of_the_keyring_and_the_aur() -> None:
    step = programs.computer.advice(linux(ARCH), ["mmdebstrap", "/usr/share/keyrings/debian-archive-keyring.gpg"])
    assert step.startswith("Run: sudo pacman -S debian-archive-keyring; ")
    assert "mmdebstrap (mmdebstrap: from the AUR)" in step


def test_other_distribution_with_all_programs_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for tool in ("qemu-system-x86_64", "mmdebstrap"):
        (tmp_path / tool).write_text("")
        (tmp_path / tool).chmod(0o755)
    monkeypatch.setattr(programs, "TOOLS", {"qemu-system-x86_64": "qemu-system-x86", "mmdebstrap": "mmdebstrap"})
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    programs.check_computer(linux(FEDORA))


def test_fields_are_read_without_the_quotes_of_the_shell() -> None:
    fields = parse_release(FEDORA + 'EMPTY=\nBROKEN="half\n')
    assert fields["PRETTY_NAME"] == "Fedora Linux 43 (Workstation Edition)"
    assert (fields["ID"], fields["EMPTY"], fields["BROKEN"]) == ("fedora", "", '"half')
    assert parse_release(MANJARO)["NAME"] == "Manjaro Linux"


def test_wsl_is_known_by_its_kernel() -> None:
    assert is_wsl(WSL)
    assert not is_wsl("Linux version 6.1.0-28-amd64 (debian-kernel@lists.debian.org)")


def test_this_computer_is_described() -> None:
    this = this_computer()
    assert (this.system, this.machine) == (os.uname().sysname, os.uname().machine)
