"""Forward ports of this computer to a running machine."""

from __future__ import annotations

from pathlib import Path

from clouds.errors import CloudError
from clouds.local.vm import qemu
from clouds.local.vm.sockets import qmp

_TRIES = 5


def open_ports(folder: Path, forwards: dict[str, int]) -> dict[str, int]:
    """Forward ports of this computer to a machine without forwarded ports; return them, since one may have been taken meanwhile.

    CloudError: QEMU cannot forward any port.
    """
    return {guest: _open_port(folder, int(guest), ours) for guest, ours in forwards.items()}


def close_port(folder: Path, ours: int) -> None:
    """Stop forwarding a port of this computer to a machine; open connections through it stay."""
    command = f"hostfwd_remove {qemu.NETWORK} {qemu.forward(ours, 0).partition('-')[0]}"
    qmp(folder, "human-monitor-command", {"command-line": command})


def _open_port(folder: Path, guest: int, ours: int) -> int:
    """Forward a port of this computer, `ours` if it is free, to a port of the guest; return it."""
    for _ in range(_TRIES):
        said = _add_forward(folder, ours, guest)
        if not said:
            return ours
        (ours,) = qemu.free_ports([0])
    raise CloudError(
        f"cannot forward a port of this computer to port {guest} of machine {folder.name!r}: {said}",
        next_step="Run the command again; if the error repeats, its output above gives the cause.",
    )


def _add_forward(folder: Path, ours: int, guest: int) -> str:
    """Forward a port; return QEMU's error, or ""."""
    command = f"hostfwd_add {qemu.NETWORK} {qemu.forward(ours, guest)}"
    return str(qmp(folder, "human-monitor-command", {"command-line": command})).strip()
