"""qcow2 disks: overlays, and their freezing into images without copying a byte."""

from __future__ import annotations

import os
from pathlib import Path

from clouds.errors import InvalidError
from clouds.local.command import run
from clouds.local.qemu import DISK

_QEMU_IMG_S = 120
_REBASE_S = 1800
_GIB = 2**30


def make_overlay(disk: Path, backing: Path, *, disk_gb: int = 0) -> None:
    """Make a disk that holds only what differs from another one; `disk_gb` makes it larger than that.

    Raises InvalidError when it would be smaller.
    """
    size = [f"{disk_gb}G"] if disk_gb else []
    if disk_gb and disk_gb * _GIB < (least := virtual_bytes(backing)):
        raise InvalidError(
            f"disk of {disk_gb} GB: smaller than that of its image, {least / _GIB:.1f} GB",
            next_step=f"Take at least {-(-least // _GIB)} GB.",
        )
    relative = os.path.relpath(backing, disk.parent)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", relative, disk.name]
    run([*argv, *(size or [str(virtual_bytes(backing))])], timeout_s=_QEMU_IMG_S, cwd=disk.parent)


def virtual_bytes(disk: Path) -> int:
    """Return the size that a guest sees (qcow2's header holds it, big-endian, at offset 24)."""
    with disk.open("rb") as file:
        header = file.read(32)
    return int.from_bytes(header[24:32], "big")


def freeze(folder: Path, target: Path, source: Path) -> None:
    """Give a machine's disk to an image: a hard link in `target`, while the machine goes on with an overlay on the same.

    The image overlays `source` alone, as the machine's disk did at first. At every instant the machine's disk is whole.
    """
    disk, frozen, fresh = folder / DISK, folder / "frozen.qcow2", folder / "fresh.qcow2"
    if frozen.exists():  # frozen once before: take back what was frozen then
        back = ["qemu-img", "rebase", "-q", "-f", "qcow2", "-F", "qcow2", "-b", os.path.relpath(source, folder), DISK]
        run(back, timeout_s=_REBASE_S, cwd=folder)
        frozen.unlink()
    os.link(disk, target)
    os.link(disk, frozen)
    make_overlay(fresh, frozen)
    frozen.chmod(0o444)
    fresh.replace(disk)
