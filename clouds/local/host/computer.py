"""The properties of this computer that the local cloud depends on: system, processor, distribution, kernel."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clouds.local.host.files import read_text

_OS_RELEASE = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
"""The first that exists counts (os-release(5))."""

KERNEL = Path("/proc/version")

_CLOUD = "Use a cloud: --cloud gcp (docs/clouds.md)"
_DEBIAN = {"debian", "ubuntu"}

# Only package names with a source are listed; for others the message names the program. Both distributions: installation
# instructions of github.com projects for Fedora and Arch (QEMU with qemu-img, mtools, OpenSSH).
# Fedora: mmdebstrap from one project's instructions; untested whether it finds apt and Debian's keys there.
# Arch: https://archlinux.org/packages/extra/any/debian-archive-keyring/, https://aur.archlinux.org/packages/mmdebstrap-git
_PACKAGES: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "fedora": (
        "sudo dnf install",
        {
            "qemu-system-x86_64": "qemu-system-x86",
            "qemu-img": "qemu-img",
            "mmdebstrap": "mmdebstrap",
            "mformat": "mtools",
            "ssh": "openssh-clients",
        },
    ),
    "arch": (
        "sudo pacman -S",
        {
            "qemu-system-x86_64": "qemu-system-x86",
            "qemu-img": "qemu-img",
            "mformat": "mtools",
            "ssh": "openssh",
            "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
        },
    ),
}
"""By distribution (ID in os-release): the install command, and the package of each program."""

_NOTES = {"arch": " (mmdebstrap: from the AUR)"}


@dataclass(frozen=True, slots=True)
class Computer:
    """`system` and `machine` as `uname` prints them, `release` the fields of os-release, `kernel` the text of /proc/version."""

    system: str
    machine: str
    release: Mapping[str, str] = field(default_factory=dict)
    kernel: str = ""

    @property
    def distribution(self) -> str:
        """The name of the distribution, with its version."""
        return self.release.get("PRETTY_NAME") or self.release.get("ID") or "this distribution"

    @property
    def ids(self) -> list[str]:
        """The distribution's ID, then those of its parents."""
        return [self.release.get("ID", ""), *self.release.get("ID_LIKE", "").split()]

    @property
    def has_debian_packages(self) -> bool:
        """Whether this distribution has Debian's package names. Without os-release this is unknown, so apt-get decides."""
        return not self.release or bool(_DEBIAN & set(self.ids))


def this_computer() -> Computer:
    """Return the properties of this computer."""
    release = next((text for path in _OS_RELEASE if (text := read_text(path))), "")
    return Computer(platform.system(), platform.machine(), parse_release(release), read_text(KERNEL))


def parse_release(text: str) -> dict[str, str]:
    """Parse os-release: `KEY=VALUE` lines with shell quoting (os-release(5))."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {key.strip(): _unquoted(value) for key, _, value in pairs}


def _unquoted(value: str) -> str:
    try:
        return " ".join(shlex.split(value))
    except ValueError:  # an unclosed quote
        return value


def is_wsl(kernel: str) -> bool:
    """Return whether the text of /proc/version is from the Windows Subsystem for Linux.

    Its releases have names such as 5.15.133.1-microsoft-standard-WSL2: https://github.com/microsoft/WSL/issues/11216
    """
    return "microsoft" in kernel.lower()


def misfit(computer: Computer) -> tuple[str, str] | None:
    """Return why local machines cannot run on this computer, and what to use instead; None if they can."""
    name = {"Darwin": "macOS"}.get(computer.system, computer.system)
    problem = f"the local cloud needs Linux on x86-64; this computer runs {name} on {computer.machine}"
    if computer.machine not in ("x86_64", "AMD64", "amd64"):
        return problem, f"{_CLOUD}, or a Linux computer on x86-64: images are for amd64."
    if computer.system == "Darwin":
        # Lima: https://github.com/lima-vm/lima. That its VMs have no KVM on a Mac is a guess.
        return problem, f"{_CLOUD}, or Debian in a virtual machine, for example with Lima; machines are emulated there."
    if computer.system != "Linux":
        return problem, f"{_CLOUD}, or Debian in a virtual machine; on Windows: in WSL 2."
    return None


def advice(computer: Computer, tools: list[str]) -> str:
    """Return how to install these missing programs and files on a distribution without Debian's packages."""
    command, packages = next((_PACKAGES[one] for one in computer.ids if one in _PACKAGES), ("", {}))
    known = sorted({packages[tool] for tool in tools if tool in packages})
    others = [tool for tool in tools if tool not in packages]
    steps = [f"Run: {command} {' '.join(known)}"] if known else []
    if others:
        note = next((_NOTES[one] for one in computer.ids if one in _NOTES and "mmdebstrap" in others), "")
        steps.append(f"Install with your package manager: {', '.join(others)}{note}")
    return f"{'; '.join(steps)}. Or bake in a Debian virtual machine or container, or in a cloud: --cloud gcp (docs/hosts.md)."
