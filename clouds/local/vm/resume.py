"""Let a machine go on from a memory: its state is loaded, it is told what is new, and only then anything leads into it."""

from __future__ import annotations

import base64
import secrets
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from clouds.errors import BakehouseError, CloudError, RestoreError
from clouds.local.disk.overlays import virtual_bytes
from clouds.local.host import files
from clouds.local.vm import memory, qemu
from clouds.local.vm.record import MachineRecord, from_memory
from clouds.local.vm.sockets import DISK_S, Agent, Monitor, Orders, qmp
from clouds.partial import is_under_way, partial_folder

SUSPENDED = "suspended"
"""The folder, in that of a machine, which holds its memory while it is suspended."""
_SCRATCH = f"new-{SUSPENDED}"
"""The name under which that folder is written; another one than that of the old one as it goes."""
_TAKES_S = 60
"""How long a guest may take to take its order; it takes a tenth of a second, and on a busy computer seconds."""
_AGENT_S = 30
_SEED_BYTES = 64
_PORT_TRIES = 5


def wake(folder: Path, record: MachineRecord) -> MachineRecord:
    """Let a QEMU that waits for its memory go on; return the record of a machine that is on. RestoreError: it does not.

    One that was suspended has its memory nowhere else once it is loaded, so nothing that comes then is a RestoreError, for which
    it would be ended: it may be asked to wake once more, as after a client that was killed on the way.
    """
    memory.load(folder, folder / record.memory)
    if record.memory == SUSPENDED:
        go_on(folder)
        set_clock(folder)
        forwards = open_ports(folder, record.forwards)
    else:
        forwards = _become(folder, record)
    return from_memory(replace(record, forwards=forwards), folder, None)


def go_on(folder: Path) -> None:
    """Let a machine go on that is paused: it was suspended, or was about to be, or the disk of this computer was full.

    Its disk goes on too, so what was kept of its memory goes first: nothing may start from there once more.
    """
    with Monitor(folder, timeout_s=DISK_S) as monitor:
        files.discard(folder / SUSPENDED)
        monitor.execute("migrate_cancel")  # else QEMU would write the memory on, though its client was killed, and pause it then
        monitor.execute("cont")


def order(folder: Path, record: MachineRecord, *, is_larger: bool = False) -> dict[str, object]:
    """Return what a guest that waits is told: who it is from now on, what it is to run, the time, and randomness of its own."""
    return {
        "clock": time.time(),
        "seed": _text(secrets.token_bytes(_SEED_BYTES)),
        "facts": record.facts or None,
        "script": (folder / "script").read_text(encoding="utf-8") if record.has_script else None,
        "build": _text((folder / "build").read_bytes()) if record.has_build_settings else None,
        "grow": is_larger,
    }


def give_order(folder: Path, given: dict[str, object]) -> None:
    """Give an order to a guest that waits. OSError: it does not take it in time."""
    with Orders(folder, timeout_s=_TAKES_S) as orders:
        orders.send(given)


def open_ports(folder: Path, forwards: dict[str, int]) -> dict[str, int]:
    """Let ports of this computer lead into a machine, which nothing did before; return them, for one may be taken by now.

    CloudError: QEMU opens none, whichever it is.
    """
    return {guest: _open_port(folder, int(guest), ours) for guest, ours in forwards.items()}


def check_not_being_suspended(folder: Path) -> None:
    """Raise CloudError while a command that lives writes the memory of a machine: what goes on meanwhile would not fit it."""
    if is_under_way(folder, _SCRATCH):
        next_step = f"Wait until it is suspended, then start it: ./inv start {folder.name}"
        raise CloudError(f"machine {folder.name}: another command is suspending it", next_step=next_step)


def suspend(folder: Path, record: MachineRecord, kept: memory.Shape) -> None:
    """Write the memory of a machine that is on beside its disk, and end its QEMU. Until all is written it just stands still."""
    with suppress(OSError, BakehouseError), Agent(folder, timeout_s=_AGENT_S) as agent:
        agent.execute("sync", timeout_s=DISK_S)  # its memory may be discarded one day, and the disk alone is left then
    scratch = partial_folder(folder, _SCRATCH)
    try:
        qmp(folder, "stop")
        machine_type = memory.save(folder, scratch)
        memory.seal(scratch, kept, machine_type)
        scratch.rename(folder / SUSPENDED)
    except BaseException:
        go_on(folder)
        raise
    finally:
        files.remove_folder(scratch)
    qmp(folder, "quit")


def advice(record: MachineRecord) -> str:
    """Return what to do with a machine that does not go on from its memory."""
    if record.memory != SUSPENDED:
        return "Launch it with --cold."
    return f"Try once more: ./inv start {record.name}. {boot_anyway(record.name)}"


def boot_anyway(name: str) -> str:
    """Return how to start a suspended machine without its memory."""
    return f"To boot it from its disk, without what it had in memory: ./inv stop {name} && ./inv start {name}"


def set_clock(folder: Path) -> None:
    """Tell the guest, which has slept, what time it is. One whose agent is gone goes on with the old time; its console says so."""
    try:
        with Agent(folder, timeout_s=_TAKES_S) as agent:
            agent.execute("date", "--set", f"@{time.time():.3f}")
    except (OSError, BakehouseError) as error:
        with (folder / qemu.CONSOLE).open("a", encoding="utf-8") as console:
            console.write(f"\nbakehouse: it was suspended, and its clock could not be set: {error}\n")


def _become(folder: Path, record: MachineRecord) -> dict[str, int]:
    """Let a machine that goes on from the memory of another be itself; return its ports. RestoreError: it does not."""
    is_larger = record.disk_bytes > virtual_bytes(folder / record.memory / qemu.DISK)
    try:
        with Monitor(folder, timeout_s=DISK_S) as monitor:
            monitor.execute("cont")
            if is_larger:
                monitor.execute("block_resize", {"device": qemu.DRIVE, "size": record.disk_bytes})
        give_order(folder, order(folder, record, is_larger=is_larger))
        return open_ports(folder, record.forwards)
    except (OSError, CloudError) as error:
        raise RestoreError(f"its guest did not come to itself: {error}", next_step="Launch it with --cold.") from error


def _open_port(folder: Path, guest: int, ours: int) -> int:
    """Let a port of this computer, this one if it is free, lead to one of a machine's; return it."""
    for _ in range(_PORT_TRIES):
        said = _add_forward(folder, ours, guest)
        if not said:
            return ours
        (ours,) = qemu.free_ports([0])
    raise CloudError(
        f"machine {folder.name}: no port of this computer could be led to its port {guest}: {said}",
        next_step="Run the command again; if it fails alike, its words above say why.",
    )


def _add_forward(folder: Path, ours: int, guest: int) -> str:
    """Open a port; return what QEMU says against it, "" when it is open."""
    command = f"hostfwd_add {qemu.NETWORK} {qemu.forward(ours, guest)}"
    return str(qmp(folder, "human-monitor-command", {"command-line": command})).strip()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
