"""The memory of a machine on disk: its RAM and devices at one instant, what it fits, and whether it is whole.

A memory is a folder with `disk.qcow2` (the disk at that very instant: resumed on another, a guest would destroy it), `state`
(QEMU's migration stream), maybe `ram`, and memory.json. With `ram` the stream holds the devices only, and each machine maps
the file privately: machines from one image share what they do not change, and nothing is read that is not used.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import BinaryIO

from clouds.errors import CloudError, RestoreError
from clouds.local.host import files
from clouds.local.host.command import run
from clouds.local.host.programs import which
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.record import MachineRecord
from clouds.local.vm.sockets import DISK_S, Monitor
from clouds.waiter import until

RECORD = "memory.json"
STATE = "state"
_SAVE_S = 1800
"""How long the memory of a machine may take to be written: 4 GiB on a USB stick that writes 3 MB/s take 25 minutes."""
_LOAD_S = 60
"""How long the devices of a machine, some MB, may take to be read. Where its RAM is read too: DISK_S."""
_POLL_S = 0.005
_BLOCK_BYTES = 2**16
_UNLIMITED_BYTES_PER_S = 2**40
_FILE_SINCE = (8, 2)
"""The first QEMU with the migration URI `file:` (commit 2a9e2e595f). QEMU 11.0 refuses a regular file behind `fd:` (f1fcc1c101):
"fd: migration to a file is not supported. Use file: instead." """


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine must have in common with a memory to go on from it. `devices` is a digest, the others are told."""

    accelerator: str
    processor: str
    qemu: str
    cpus: int
    memory_mb: int
    devices: str


def shape(record: MachineRecord, accelerator: Accelerator) -> Shape:
    """Return the shape of a machine on this computer."""
    return Shape(
        accelerator=accelerator.name,
        processor=_processor() if accelerator.name == "kvm" else "emulated",
        qemu=_qemu(),
        cpus=record.cpus,
        memory_mb=record.memory_mb,
        devices=_digest("\n".join((*accelerator.arguments, *qemu.devices()))),
    )


def difference(folder: Path, wanted: Shape, *, any_qemu: bool = False) -> str:
    """Return in a few words why a machine of this shape cannot go on from a memory; "" when it can.

    With `any_qemu` that of another QEMU is no reason: it may load what another one saved, or refuse it.
    """
    kept = files.read_json(folder / RECORD)
    if kept is None:
        return "no memory is kept of it"
    try:
        frozen = Shape(**{one.name: kept["shape"][one.name] for one in fields(Shape)})
    except (KeyError, TypeError):
        return "its memory was saved by another release of Bakehouse"
    reasons = {
        f"{wanted.cpus} processors, and its memory was frozen with {frozen.cpus}": wanted.cpus != frozen.cpus,
        f"{wanted.memory_mb} MB, and its memory was frozen with {frozen.memory_mb} MB": wanted.memory_mb != frozen.memory_mb,
        f"its memory was frozen under {frozen.accelerator}, and this is {wanted.accelerator}": wanted.accelerator
        != frozen.accelerator,
        "its memory was frozen by another QEMU": wanted.qemu != frozen.qemu and not any_qemu,
        "its memory was frozen on another processor": wanted.processor != frozen.processor,
        "its memory was frozen by another Bakehouse": wanted.devices != frozen.devices,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def save(machine: Path, target: Path, *, is_mapped: bool = False) -> str:
    """Write RAM and devices of a machine that is paused into a folder; with `seal` and the disk they are a memory.

    Returns the machine type that QEMU emulates, such as pc-q35-7.2: only a machine of that type can load it.
    """
    with (target / STATE).open("wb") as file, Monitor(machine, timeout_s=_SAVE_S) as monitor:
        os.fchmod(file.fileno(), 0o600)
        machine_type: str = monitor.execute("qom-get", {"path": "/machine", "property": "type"})
        monitor.execute("migrate-set-parameters", {"max-bandwidth": _UNLIMITED_BYTES_PER_S})
        _set_capability(monitor, is_mapped=is_mapped)
        with _lent(monitor, file) as uri:
            monitor.execute("migrate", {"uri": uri})
            until(lambda: _is_saved(monitor), what="the memory of the machine", timeout_s=_SAVE_S, poll_s=_POLL_S)
    if is_mapped:
        run(["cp", "--sparse=always", str(machine / qemu.RAM), str(target / qemu.RAM)], timeout_s=_SAVE_S)
        (target / qemu.RAM).chmod(0o600)
    return machine_type.removesuffix("-machine")


def seal(folder: Path, kept: Shape, machine_type: str, *, is_hashed: bool = False) -> None:
    """Write down what a memory fits and what its files are: this makes it one. Only a hashed one can be moved."""
    names = [name for name in (STATE, qemu.RAM, qemu.DISK) if (folder / name).exists()]
    hashes = {name: _sparse_sha256(folder / name) if is_hashed else "" for name in names}
    stamps = {name: {"stamp": _stamp(folder / name), "sha256": hashes[name]} for name in names}
    files.write_json(folder / RECORD, {"shape": asdict(kept), "machine_type": machine_type, "files": stamps})


def check(folder: Path) -> None:
    """Raise RestoreError when the files of a memory are not those that were written.

    A file whose size, times and inode are as they were is not read: that would take as long as the rest of a launch.
    """
    record = files.read_json(folder / RECORD)
    if record is None or not isinstance(record.get("files"), dict):
        raise _damaged("its record is gone or cannot be read")
    moved = False
    for name, known in record["files"].items():
        path = folder / name
        if not path.exists():
            raise _damaged(f"{name} is gone")
        if _stamp(path) != known["stamp"]:
            if not known["sha256"] or _sparse_sha256(path) != known["sha256"]:
                raise _damaged(f"{name} has changed")
            known["stamp"], moved = _stamp(path), True
    if moved:  # to another disk, say
        files.write_json(folder / RECORD, record)


def is_whole(folder: Path) -> bool:
    """Say whether the files of a memory are those that were written."""
    try:
        check(folder)
    except (RestoreError, FileNotFoundError):  # it may be going this very moment
        return False
    return True


def load(machine: Path, folder: Path) -> None:
    """Let a QEMU that waits for a memory (-incoming defer) have one; it stays paused. RestoreError: it refuses it.

    One that has its memory already, from a client that was killed then, needs the folder no more.
    """
    try:
        is_mapped = (folder / qemu.RAM).exists()
        limit_s = _LOAD_S if is_mapped else DISK_S
        with Monitor(machine, timeout_s=limit_s) as monitor:
            if not _is_loaded(monitor):
                _read(monitor, folder, is_mapped=is_mapped, limit_s=limit_s)
    except OSError as error:
        words = qemu.death(machine) or error
        raise RestoreError(f"QEMU does not go on from it: {words}", next_step="Launch it with --cold.") from error


def _read(monitor: Monitor, folder: Path, *, is_mapped: bool, limit_s: float) -> None:
    with (folder / STATE).open("rb") as file:
        _set_capability(monitor, is_mapped=is_mapped)
        with _lent(monitor, file) as uri:
            monitor.execute("migrate-incoming", {"uri": uri})
            until(lambda: _is_loaded(monitor), what="the memory of the machine", timeout_s=limit_s, poll_s=_POLL_S)


@contextmanager
def _lent(monitor: Monitor, file: BinaryIO) -> Iterator[str]:
    """Pass an open file (at its start) to QEMU, and give the migration URI that reads or writes it.

    QEMU 8.1 answers success to a URI that it does not know (its commit 908927db28), so its version decides, not a try.
    """
    if monitor.version < _FILE_SINCE:
        monitor.execute("getfd", {"fdname": STATE}, file=file.fileno())
        yield f"fd:{STATE}"
        return
    number = monitor.execute("add-fd", file=file.fileno())["fdset-id"]
    try:
        yield f"file:/dev/fdset/{number}"
    finally:
        with suppress(OSError):  # QEMU may have ended, and the file with it
            monitor.execute("remove-fd", {"fdset-id": number})


def size_bytes(folder: Path) -> int:
    """Return what a memory occupies; 0 when there is none."""
    return files.folder_bytes(folder) if (folder / RECORD).exists() else 0


def _is_saved(monitor: Monitor) -> bool:
    found = monitor.execute("query-migrate")
    if found["status"] in ("failed", "cancelled"):
        said = found.get("error-desc", found["status"])
        raise CloudError(f"QEMU could not write the memory of the machine: {said}", next_step="Is the disk full? Try again.")
    return bool(found["status"] == "completed")


def _is_loaded(monitor: Monitor) -> bool:
    return bool(monitor.execute("query-status")["status"] != "inmigrate")


def _set_capability(monitor: Monitor, *, is_mapped: bool) -> None:
    wanted = [{"capability": "x-ignore-shared", "state": is_mapped}]
    monitor.execute("migrate-set-capabilities", {"capabilities": wanted})


def _damaged(what: str) -> RestoreError:
    return RestoreError(f"its memory is damaged: {what}", next_step="Bake the image again: ./inv bake --force.")


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    # A disk has a second name while its builder is there, and another time when that goes.
    changed_ns = 0 if path.name == qemu.DISK else found.st_ctime_ns
    return [found.st_ino, found.st_size, found.st_mtime_ns, changed_ns]


def _sparse_sha256(path: Path) -> str:
    """Return a digest of a file by its blocks that are not zero, and where they lie: the same however much of it is holes."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        at, end = 0, os.fstat(file.fileno()).st_size
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA) // _BLOCK_BYTES * _BLOCK_BYTES
            except OSError:  # nothing but a hole is left
                break
            block = os.pread(file.fileno(), _BLOCK_BYTES, at)
            if block.count(0) < len(block):
                total.update(at.to_bytes(8, "big") + block)
            at += _BLOCK_BYTES
    return total.hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _qemu() -> str:
    """Return what tells one QEMU from another, without running it."""
    program = Path(which(qemu.PROGRAM) or "/nonexistent")
    return f"{program.stat().st_mtime_ns} {program.stat().st_size}" if program.exists() else ""


def _processor() -> str:
    """Return what guests see of this computer's processor (-cpu host)."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
    wanted = ("model name", "flags", "microcode")
    return _digest("\n".join(sorted({f"{key.strip()} {value.strip()}" for key, _, value in lines if key.strip() in wanted})))
