"""Suspend a machine: its memory is written next to its disk, and its QEMU ends. Until then the machine can continue."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from clouds.errors import BakehouseError, CloudError
from clouds.local.host import files
from clouds.local.memory import transport, trust
from clouds.local.memory.fit import Shape
from clouds.local.vm.sockets import DISK_S, Agent, Monitor, qmp
from clouds.partial import is_under_way, partial_folder

SUSPENDED = "suspended"
"""The folder, inside a machine's folder, with its memory while it is suspended."""
_SCRATCH = f"new-{SUSPENDED}"
"""The name under which that folder is written: not the name under which an old one is removed."""
_AGENT_S = 30


def suspend(folder: Path, shape: Shape) -> None:
    """Write the memory of a running machine next to its disk, and end its QEMU. If writing fails, the machine continues."""
    with suppress(OSError, BakehouseError), Agent(folder, timeout_s=_AGENT_S) as agent:
        agent.execute("sync", timeout_s=DISK_S)  # if its memory is discarded one day, only the disk is left
    scratch = partial_folder(folder, _SCRATCH)
    try:
        qmp(folder, "stop")
        machine_type = transport.save(folder, scratch)
        trust.seal(scratch, shape, machine_type)
        scratch.rename(folder / SUSPENDED)
    except BaseException:
        unpause(folder)
        raise
    finally:
        files.remove_folder(scratch)
    qmp(folder, "quit")


def unpause(folder: Path) -> None:
    """Continue a paused machine: it was suspended, its suspension was interrupted, or this computer's disk was full.

    Its disk will change, so its saved memory is removed first: nothing may be restored from it again.
    """
    with Monitor(folder, timeout_s=DISK_S) as monitor:
        files.discard(folder / SUSPENDED)
        monitor.execute("migrate_cancel")  # else QEMU, whose client was killed, would write on and pause the machine at the end
        monitor.execute("cont")


def check_not_being_suspended(folder: Path) -> None:
    """Raise CloudError while a live command writes the memory of a machine, which would not fit one that continues meanwhile."""
    if is_under_way(folder, _SCRATCH):
        next_step = f"Wait until it is suspended, then start it: ./inv start {folder.name}"
        raise CloudError(f"another command is suspending machine {folder.name!r}", next_step=next_step)


def boot_anyway(name: str) -> str:
    """Return how to start a suspended machine without its saved memory."""
    return f"To boot it from its disk, without its saved memory: ./inv stop {name} && ./inv start {name}"
