"""Freeze: save the memory of an unassigned machine with the image that it was booted from, for launches to restore."""

from __future__ import annotations

from pathlib import Path

from clouds.errors import ConflictError
from clouds.local.disk.overlays import set_backing_file
from clouds.local.host import files
from clouds.local.memory import transport, trust
from clouds.local.memory.fit import shape
from clouds.local.store import Store
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.record import MachineRecord
from clouds.local.vm.sockets import DISK_S, qmp
from clouds.partial import partial_folder, sweep
from clouds.waiter import until

MEMORY = "memory"
"""The folder, inside an image's folder, with the memory of a machine that has booted from it."""


def freeze(store: Store, record: MachineRecord, accelerator: Accelerator) -> None:
    """Save the memory of a waiting machine, its disk at rest, with its image; that machine ends. An earlier one is replaced.

    ConflictError: the disk of another machine depends on the earlier one.
    """
    machine, image = store.machine(record.name), store.image(record.source)
    sweep(image)
    folder = partial_folder(image, f"new-{MEMORY}")  # not the name under which the old one is removed
    try:
        qmp(machine, "stop")
        machine_type = transport.save(machine, folder, is_mapped=True)
        qmp(machine, "quit")
        until(lambda: not qemu.is_alive(machine), what=f"exit of QEMU of machine {record.name!r}", timeout_s=DISK_S)
        (machine / record.disk).rename(folder / qemu.DISK)
        set_backing_file(folder / qemu.DISK, f"../{qemu.DISK}")
        (folder / qemu.DISK).chmod(0o444)
        trust.seal(folder, shape(record, accelerator), machine_type, is_hashed=True)
        files.keep(folder)
        with store.locked():
            _check_unused(store, image, besides=record.name)
            files.discard(image / MEMORY)
            folder.rename(image / MEMORY)
    finally:
        files.remove_folder(folder)


def _check_unused(store: Store, image: Path, *, besides: str) -> None:
    """Raise ConflictError while the disk of a machine depends on the memory that an image has."""
    others = [user for user in store.users(image.name) if user != f"machine {besides}"]
    if others and (image / MEMORY).is_dir():
        raise ConflictError(
            f"image {image.name}: {', '.join(others)} depends on its saved memory",
            next_step="Delete it, then bake again: the memory is saved anew.",
        )
