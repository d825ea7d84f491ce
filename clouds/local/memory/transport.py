"""Write the RAM and devices of a machine into files, and read them into another QEMU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from clouds.errors import CloudError, RestoreError
from clouds.local.host.command import run
from clouds.local.vm import qemu
from clouds.local.vm.sockets import DISK_S, Monitor
from clouds.waiter import until

STATE = "state"
_SAVE_S = 1800
"""How long writing the memory may take: 4 GiB on a USB stick with 3 MB/s take 25 minutes."""
_LOAD_S = 60
"""How long reading the devices, some MB, may take; if the RAM is read too: DISK_S."""
_POLL_S = 0.005
_UNLIMITED_BYTES_PER_S = 2**40
_FILE_SINCE = (8, 2)
"""The first QEMU with the migration URI `file:` (commit 2a9e2e595f). QEMU 11.0 rejects regular files with `fd:` (f1fcc1c101):
"fd: migration to a file is not supported. Use file: instead." """


def save(machine: Path, target: Path, *, is_mapped: bool = False) -> str:
    """Write RAM and devices of a paused machine into a folder; `trust.seal` and the disk complete it.

    Returns the machine type that QEMU emulates, such as pc-q35-7.2: only a machine of that type can load the memory.
    """
    with (target / STATE).open("wb") as file, Monitor(machine, timeout_s=_SAVE_S) as monitor:
        os.fchmod(file.fileno(), 0o600)
        machine_type: str = monitor.execute("qom-get", {"path": "/machine", "property": "type"})
        monitor.execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED_BYTES_PER_S})
        _set_capability(monitor, is_mapped=is_mapped)
        with _passed(monitor, file) as uri:
            monitor.execute("migrate", {"uri": uri})
            until(lambda: _is_saved(monitor), what="saving the memory of the machine", timeout_s=_SAVE_S, poll_s=_POLL_S)
    if is_mapped:
        run(["cp", "--sparse=always", str(machine / qemu.RAM), str(target / qemu.RAM)], timeout_s=_SAVE_S)
        (target / qemu.RAM).chmod(0o600)
    return machine_type.removesuffix("-machine")


def load(machine: Path, folder: Path) -> None:
    """Load a saved memory into a QEMU that waits for one (-incoming defer); it stays paused. RestoreError: QEMU rejects it.

    A QEMU that has loaded it already, for a client that was killed then, no longer needs the folder.
    """
    try:
        is_mapped = (folder / qemu.RAM).exists()
        limit_s = _LOAD_S if is_mapped else DISK_S
        with Monitor(machine, timeout_s=limit_s) as monitor:
            if not _is_loaded(monitor):
                _read(monitor, folder, is_mapped=is_mapped, limit_s=limit_s)
    except OSError as error:
        words = qemu.death(machine) or error
        raise RestoreError(f"QEMU could not restore the saved memory: {words}", next_step="Launch it with --cold.") from error


def _read(monitor: Monitor, folder: Path, *, is_mapped: bool, limit_s: float) -> None:
    with (folder / STATE).open("rb") as file:
        _set_capability(monitor, is_mapped=is_mapped)
        with _passed(monitor, file) as uri:
            monitor.execute("migrate-incoming", {"uri": uri})
            until(lambda: _is_loaded(monitor), what="loading the memory of the machine", timeout_s=limit_s, poll_s=_POLL_S)


@contextmanager
def _passed(monitor: Monitor, file: BinaryIO) -> Iterator[str]:
    """Pass an open file (at its start) to QEMU; yield the migration URI that reads or writes it.

    QEMU 8.1 reports success for a URI that it does not support (its commit 908927db28), so its version decides, not a try.
    """
    if monitor.version < _FILE_SINCE:
        monitor.execute("getfd", {"fdname": STATE}, file=file.fileno())
        yield f"fd:{STATE}"
        return
    number = monitor.execute("add-fd", file=file.fileno())["fdset-id"]
    try:
        yield f"file:/dev/fdset/{number}"
    finally:
        with suppress(OSError):  # QEMU may have exited
            monitor.execute("remove-fd", {"fdset-id": number})


def _is_saved(monitor: Monitor) -> bool:
    """Return whether the memory is saved, and QEMU accepts `cont`, which it rejects for a moment after it reports `completed`.

    migration_iteration_finish sets the run state after the status (migration/migration.c); qmp_cont checks it
    (monitor/qmp-cmds.c: "Migration is not finalized yet").
    """
    found = monitor.execute("query-migrate")
    if found["status"] in ("failed", "cancelled"):
        said = found.get("error-desc", found["status"])
        raise CloudError(f"QEMU could not save the memory of the machine: {said}", next_step="Is the disk full? Try again.")
    return bool(found["status"] == "completed" and monitor.execute("query-status")["status"] != "finish-migrate")


def _is_loaded(monitor: Monitor) -> bool:
    return bool(monitor.execute("query-status")["status"] != "inmigrate")


def _set_capability(monitor: Monitor, *, is_mapped: bool) -> None:
    wanted = [{"capability": "x-ignore-shared", "state": is_mapped}]
    monitor.execute("migrate-set-capabilities", {"capabilities": wanted})
