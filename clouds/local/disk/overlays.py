"""qcow2 disks: overlays, and their freezing into images."""

from __future__ import annotations

import os
from pathlib import Path

from clouds.errors import InvalidError
from clouds.local.host.command import run

_QEMU_IMG_S = 120
_REBASE_S = 1800
_GIB = 2**30


def make_overlay(disk: Path, backing: Path, *, size_bytes: int = 0) -> None:
    """Make a disk that holds only what differs from another one, and is as large, or of another size.

    With a size given the other one need not be there yet. InvalidError: it would be smaller than the one that is there.
    """
    if size_bytes and backing.exists() and size_bytes < (least := virtual_bytes(backing)):
        raise InvalidError(
            f"disk of {size_bytes / _GIB:.0f} GB: smaller than that of its image, {least / _GIB:.1f} GB",
            next_step=f"Take at least {-(-least // _GIB)} GB.",
        )
    relative = os.path.relpath(backing, disk.parent)
    argv = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-u", "-b", relative, disk.name]
    run([*argv, str(size_bytes or virtual_bytes(backing))], timeout_s=_QEMU_IMG_S, cwd=disk.parent)


def virtual_bytes(disk: Path) -> int:
    """Return the size that a guest sees (qcow2's header holds it, big-endian, at offset 24)."""
    with disk.open("rb") as file:
        header = file.read(32)
    return int.from_bytes(header[24:32], "big")


def freeze(disk: Path, target: Path, source: Path, *, is_layered: bool) -> None:
    """Give a machine's disk to an image: a hard link in `target`, while the machine goes on with an overlay on the same.

    The image overlays `source` alone; with layers between (or when it was frozen before) their content is taken over first,
    save what was deleted since. At every instant the machine's disk is whole.
    """
    folder = disk.parent
    frozen, fresh = folder / "frozen.qcow2", folder / "fresh.qcow2"
    if is_layered or frozen.exists():
        over = [
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
        run(over, timeout_s=_REBASE_S, cwd=folder)
        frozen.unlink(missing_ok=True)
    os.link(disk, target)
    os.link(disk, frozen)
    make_overlay(fresh, frozen)
    frozen.chmod(0o444)
    fresh.replace(disk)


def put_on(disk: Path, backing: str) -> None:
    """Let a disk that was moved overlay the same disk as before, by its new relative path."""
    run(
        ["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing, disk.name],
        timeout_s=_QEMU_IMG_S,
        cwd=disk.parent,
    )
