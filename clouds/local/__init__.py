"""The local cloud: QEMU virtual machines on this computer, without any account.

Everything it keeps lies in one folder (see `store`): bases that it builds itself with mmdebstrap, images, machines.
A machine is one QEMU process that outlives the command that started it and listens on the loopback address only.
"""

from __future__ import annotations

from pathlib import Path

from clouds.local.driver import LocalCloud


def connect(home: Path) -> LocalCloud:
    """Return the local cloud that keeps its things below `home`; nothing is started or looked for yet."""
    return LocalCloud(home / "local")
