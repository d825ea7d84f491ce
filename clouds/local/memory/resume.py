"""Restore a machine in a QEMU that waits for its memory: load it, give the guest its order, and only then open its ports."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from clouds.errors import BakehouseError, CloudError, RestoreError, UnresponsiveError
from clouds.local.disk.overlays import virtual_bytes
from clouds.local.memory.fit import booting
from clouds.local.memory.suspend import SUSPENDED, boot_anyway, unpause
from clouds.local.memory.transport import load
from clouds.local.vm import qemu
from clouds.local.vm.orders import TAKES_S, give_order, order
from clouds.local.vm.ports import open_ports
from clouds.local.vm.record import MachineRecord
from clouds.local.vm.sockets import DISK_S, Agent, Monitor


def resume(folder: Path, record: MachineRecord) -> MachineRecord:
    """Load a machine's memory and continue it; return the record of the running machine. RestoreError: it cannot be restored.

    Once the memory of a suspended machine is loaded, it exists nowhere else. So later failures are no RestoreError, for which the
    machine would be ended: call this again, as after a client that was killed in between.
    """
    load(folder, folder / record.memory)
    if record.memory == SUSPENDED:
        unpause(folder)
        set_clock(folder)
        forwards = open_ports(folder, record.forwards)
    else:
        forwards = _take_identity(folder, record)
    return booting(replace(record, forwards=forwards))


def advice(record: MachineRecord) -> str:
    """Return what to do with a machine that could not be restored from its memory."""
    if record.memory != SUSPENDED:
        return "Launch it with --cold."
    return f"Try again: ./inv start {record.name}. {boot_anyway(record.name)}"


def set_clock(folder: Path) -> None:
    """Set the clock of a guest that was suspended. Without its agent the guest keeps the old time; its console says so."""
    try:
        with Agent(folder, timeout_s=TAKES_S) as agent:
            agent.execute("date", "--set", f"@{time.time():.3f}")
    except (OSError, BakehouseError) as error:
        with (folder / qemu.CONSOLE).open("a", encoding="utf-8") as console:
            console.write(f"\nbakehouse: could not set the clock after the suspension: {error}\n")


def _take_identity(folder: Path, record: MachineRecord) -> dict[str, int]:
    """Continue a machine that was restored from another's memory and give it its identity; return its ports.

    UnresponsiveError: its guest does not respond. RestoreError: it refuses, and would again, or a port cannot be forwarded.
    """
    is_larger = record.disk_bytes > virtual_bytes(folder / record.memory / qemu.DISK)
    try:
        with Monitor(folder, timeout_s=DISK_S) as monitor:
            monitor.execute("cont")
            if is_larger:
                monitor.execute("block_resize", {"device": qemu.DRIVE, "size": record.disk_bytes})
        give_order(folder, order(folder, record, is_larger=is_larger))
        return open_ports(folder, record.forwards)
    except OSError as error:
        raise UnresponsiveError(
            f"machine {record.name!r} did not respond after it was restored from memory: {error}", next_step=advice(record)
        ) from error
    except CloudError as error:
        raise RestoreError(
            f"machine {record.name!r} cannot be restored from its image's saved memory: {error}", next_step=advice(record)
        ) from error
