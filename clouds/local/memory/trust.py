"""The files of saved memory: what they fit is written down with a digest of each, and they are checked before they are used."""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict
from pathlib import Path

from clouds.errors import RestoreError
from clouds.local.host import files
from clouds.local.memory.fit import RECORD, Shape
from clouds.local.memory.transport import STATE
from clouds.local.vm import qemu

_BLOCK_BYTES = 2**16


def seal(folder: Path, kept: Shape, machine_type: str, *, is_hashed: bool = False) -> None:
    """Write the record of saved memory, which completes it. Only a hashed one can be moved to another disk."""
    names = [name for name in (STATE, qemu.RAM, qemu.DISK) if (folder / name).exists()]
    hashes = {name: _sparse_sha256(folder / name) if is_hashed else "" for name in names}
    stamps = {name: {"stamp": _stamp(folder / name), "sha256": hashes[name]} for name in names}
    files.write_json(folder / RECORD, {"shape": asdict(kept), "machine_type": machine_type, "files": stamps})


def check(folder: Path) -> None:
    """Raise RestoreError when the files of saved memory are not those that were written.

    A file with unchanged size, times and inode is not read: that would take as long as the rest of a launch.
    """
    record = files.read_json(folder / RECORD)
    if record is None or not isinstance(record.get("files"), dict):
        raise _damaged("its record is missing or unreadable")
    moved = False
    for name, known in record["files"].items():
        path = folder / name
        if not path.exists():
            raise _damaged(f"{name} is missing")
        if _stamp(path) != known["stamp"]:
            if not known["sha256"] or _sparse_sha256(path) != known["sha256"]:
                raise _damaged(f"{name} has changed")
            known["stamp"], moved = _stamp(path), True
    if moved:  # for example to another disk
        files.write_json(folder / RECORD, record)


def is_whole(folder: Path) -> bool:
    """Return whether the files of saved memory are those that were written."""
    try:
        check(folder)
    except (RestoreError, FileNotFoundError):  # another process may be removing it
        return False
    return True


def size_bytes(folder: Path) -> int:
    """Return how much disk space saved memory uses; 0 when there is none."""
    return files.folder_bytes(folder) if (folder / RECORD).exists() else 0


def _damaged(what: str) -> RestoreError:
    return RestoreError(f"its saved memory is damaged: {what}", next_step="Bake the image again: ./inv bake --force.")


def _stamp(path: Path) -> list[int]:
    found = path.stat()
    # The disk of a layer has a second name while its builder exists; its ctime changes when that name is removed.
    changed_ns = 0 if path.name == qemu.DISK else found.st_ctime_ns
    return [found.st_ino, found.st_size, found.st_mtime_ns, changed_ns]


def _sparse_sha256(path: Path) -> str:
    """Return a digest of a file's nonzero blocks and their offsets, so that holes that were filled make no difference."""
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
