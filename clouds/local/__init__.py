"""The local cloud: QEMU virtual machines on this computer, without any account.

Everything it keeps lies in one folder (see `store`): bases that it builds itself with mmdebstrap, images, machines.
A machine is one QEMU process that outlives the command that started it and listens on the loopback address only.
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
        "what machines run on: kvm, or tcg, which emulates (default: KVM where it works)",
        ("BAKEHOUSE_ACCELERATOR",),
        check=one_of("kvm", "tcg"),
    ),
}
"""What it wants to know of its user."""


def connect(home: Path, settings: Mapping[str, str] = {}) -> LocalCloud:
    """Return the local cloud that keeps its things below `home`; nothing is started or looked for yet."""
    from clouds.local.driver import LocalCloud

    return LocalCloud(home / "local", settings.get("accelerator", ""))


def prepare(tell: Tell) -> None:
    """Install the programs that it needs. MissingToolError: it cannot run here, or what to install by hand."""
    from clouds.home import home
    from clouds.local.host.installing import ensure_tools

    ensure_tools(home() / "local", tell)
