"""The local cloud: QEMU virtual machines on this computer, without any account.

Everything is stored in one folder (see `store`): bases that are built here with mmdebstrap, layers, images and machines.
A machine is one QEMU process, which outlives the command that started it and listens on the loopback address only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.settings import Setting, one_of

if TYPE_CHECKING:
    from clouds.driver import Tell
    from clouds.local.driver import LocalCloud

SETTINGS: Mapping[str, Setting] = {
    "accelerator": Setting(
        "accelerator of machines: kvm, or tcg for emulation (default: kvm where it works)",
        ("BAKEHOUSE_ACCELERATOR",),
        check=one_of("kvm", "tcg"),
    ),
}
"""The settings of this cloud; see `clouds.settings`."""
SETTINGS_PAGE = "docs/hosts.md, under KVM"


def connect(home: Path, settings: Mapping[str, str] = {}) -> LocalCloud:
    """Return the local cloud that stores its files below `home`, without starting or searching for anything."""
    from clouds.local.driver import LocalCloud

    return LocalCloud(home / "local", settings.get("accelerator", ""))


def prepare(tell: Tell) -> None:
    """Install the programs that this cloud needs. MissingToolError: it cannot run here, or you must install a program yourself."""
    from clouds.home import home
    from clouds.local.host.installing import ensure_tools

    ensure_tools(home() / "local", tell)
