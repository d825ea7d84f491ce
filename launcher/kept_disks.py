"""Disks that outlive their machines: keep, list and delete them. Their labels are those of the machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from clouds import names
from clouds.capabilities import KeepsDisks
from clouds.driver import Cloud, Kind, Resource
from clouds.errors import ConflictError, InvalidError, NotFoundError
from clouds.incomplete import partly, whole
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from clouds.undo import Undo
from launcher.regions import other_regions, where

LABEL = {"keep-disk": "1"}
"""The label of a machine whose disk is kept, and of the disk."""


def keep(cloud: Cloud, undo: Undo, machine: str) -> None:
    """Let the disk of a new machine outlive it. If the launch fails later, the disk is deleted with the machine."""
    assert isinstance(cloud, KeepsDisks), f"{cloud.name} grants keep_disk"
    keeper: KeepsDisks = cloud
    undo.add(
        f"disk of machine {machine!r}",
        lambda: keeper.keep_disk(machine, keep=False),
        by_hand="./inv gc",
    )
    cloud.keep_disk(machine, keep=True)


def forgo(cloud: Cloud, machine: str, labels: Mapping[str, str]) -> None:
    """Let the disk of a machine be deleted with it if its launch did not finish: it may have been killed after `keep`.

    Call this before the machine is deleted. If the machine no longer allows it, `gc` finds the disk later.
    """
    if LABEL.items() <= labels.items() and labels.get("role") != "machine" and isinstance(cloud, KeepsDisks):
        keeper: KeepsDisks = cloud
        with suppress(NotFoundError, InvalidError):
            keeper.keep_disk(machine, keep=False)


def is_kept(disk: Resource) -> bool:
    """Return whether a disk is kept on purpose; the machine of one that is not had not finished its launch."""
    return disk.kind is Kind.DISK and LABEL.items() <= disk.labels.items() and disk.labels.get("role") == "machine"


def described(disk: Resource) -> str:
    """Return a kept disk in words, with what its price depends on."""
    facts = ", ".join(fact for fact in (f"{disk.size_bytes / 2**30:.0f} GB", disk.type, disk.zone) if fact)
    machine = disk.labels.get("machine", "")
    return f"disk {disk.name!r}" + (f" of machine {machine!r}" if machine not in ("", disk.name) else "") + f" ({facts})"


def find_disk(cloud: Cloud, name: str) -> Resource:
    """Return the kept disk with this name, or of the deleted machine with this name; ZONE/NAME selects one of several.

    NotFoundError: no such disk. ConflictError: several machines of this name have left one. UnreachableError: it may be in a part
    of the cloud that did not respond.
    """
    found, missing = partly(lambda: cloud.owned({"project": names.PROJECT, **LABEL}, {Kind.DISK}))
    disks = [disk for disk in found if is_kept(disk)]
    zone, _, plain = name.rpartition("/")
    there = [disk for disk in disks if zone in ("", disk.zone)]
    named = [disk for disk in there if disk.name == plain] or [disk for disk in there if disk.labels.get("machine") == plain]
    if len(named) > 1:
        is_unique = len({disk.name for disk in named}) == len(named)
        listed = ", ".join(disk.name if is_unique else f"{disk.zone}/{disk.name}" for disk in named)
        raise ConflictError(f"{len(named)} kept disks of machines named {name!r}: {listed}", next_step="Name one of these disks.")
    if named:
        return named[0]
    whole(f"disk {name!r}", (), missing)
    if cloud.find(Kind.MACHINE, name):
        raise ConflictError(f"the disk of machine {name!r} is in use", next_step=f"Delete the machine first: ./inv delete {name}")
    others = f"Kept disks: {', '.join(disk.name for disk in disks)}" if disks else "To list kept disks: ./inv gc"
    raise NotFoundError(f"kept disk {name!r} not found on {where(cloud)}", next_step=others + other_regions(cloud, "gc"))


def delete_disk(cloud: Cloud, ledger: Ledger, disk: Resource) -> None:
    """Delete a kept disk."""
    remove(cloud, ledger, Kind.DISK, disk.name, disk.zone)
