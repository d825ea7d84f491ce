"""qcow2 disks: create overlays, and turn a machine's overlay into an image."""

from __future__ import annotations

import os
from pathlib import Path

from clouds.errors import InvalidError
from clouds.local.host.command import run

_QEMU_IMG_S = 120
_REBASE_S = 1800
_GIB = 2**30


def make_overlay(disk: Path, backing: Path, *, size_bytes: int = 0) -> None:
    """Create an overlay on another disk, of the same size or of `size_bytes`.

    With a size, the backing disk need not exist yet. InvalidError: the overlay would be smaller than its backing disk.
    """
    if size_bytes and backing.exists() and size_bytes < (least := virtual_bytes(backing)):
        raise InvalidError(
            f"disk size {size_bytes / _GIB:.0f} GB is smaller than the image's {least / _GIB:.1f} GB",
            next_step=f"Use at least {-(-least // _GIB)} GB.",
        )
    relative = os.path.relpath(backing, disk.parent)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", relative, disk.name]
    run([*argv, str(size_bytes or virtual_bytes(backing))], timeout_s=_QEMU_IMG_S, cwd=disk.parent)


def virtual_bytes(disk: Path) -> int:
    """Return the virtual size in bytes (in qcow2's header, big-endian, at offset 24)."""
    with disk.open("rb") as file:
        header = file.read(32)
    return int.from_bytes(header[24:32], "big")


def freeze(disk: Path, target: Path, source: Path, *, is_layered: bool) -> None:
    """Turn a machine's disk into an image's: hard-link it to `target`, and give the machine an overlay on it.

    The image overlays `source` directly: the content of layers in between (or of an earlier freeze) is copied into it first,
    without what was deleted since. The machine's disk is intact at every moment.
    """
    folder = disk.parent
    frozen, fresh = folder / "frozen.qcow2", folder / "fresh.qcow2"
    if is_layered or frozen.exists():
        rebase = [
            "qemu-img",
            "rebase",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "qcow2",
            "-t",
            "unsafe",
            "-b",
            os.path.relpath(source, folder),
            disk.name,
        ]
        run(rebase, timeout_s=_REBASE_S, cwd=folder)
        frozen.unlink(missing_ok=True)
    os.link(disk, target)
    os.link(disk, frozen)
    make_overlay(fresh, frozen)
    frozen.chmod(0o444)
    fresh.replace(disk)


def set_backing_file(disk: Path, backing: str) -> None:
    """Rewrite the backing file path of a disk after a move."""
    run(
        ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, disk.name],
        timeout_s=_QEMU_IMG_S,
        cwd=disk.parent,
    )
