"""Layers: the disk and saved memory of a builder at a checkpoint, from which other builders start.

A layer is a folder with disk.qcow2 (an overlay on the previous layer or the base), the memory saved at the same instant
(`clouds.local.memory`) and layer.json. The builder continues on an overlay of it. Ids are unique, since two bakes may make equal
layers.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clouds.capabilities import Layer
from clouds.errors import CloudError, GuestError
from clouds.local.base.esp import BOOT_FILES
from clouds.local.disk.overlays import make_overlay, virtual_bytes
from clouds.local.host import files
from clouds.local.memory import transport, trust
from clouds.local.memory.fit import shape
from clouds.local.store import LAYER, Store, visible
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.record import MachineRecord
from clouds.local.vm.sockets import qmp
from clouds.partial import partial_folder, sweep

_GIB = 2**30
_NEEDED = frozenset({"key", "parent", "step", "own", "source", "used_at", "cpus", "memory_mb"})


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers of a store."""

    store: Store

    def all(self) -> list[Layer]:
        """Return the layers, least recently used first, without damaged ones and those that depend on a damaged one."""
        sound = [folder for folder in visible(self.store.layers) if self._is_sound(folder.name)]
        return sorted((layer for folder in sound if (layer := _layer(folder))), key=lambda layer: layer.used_at)

    def remove_damaged(self) -> None:
        """Remove layers that are damaged, or depend on a damaged one, unless something else uses them."""
        left = [folder.name for folder in visible(self.store.layers) if not self._is_sound(folder.name)]
        while gone := [name for name in left if self.remove(name)]:  # each pass removes those without dependents
            left = [name for name in left if name not in gone]

    def keep(
        self,
        record: MachineRecord,
        accelerator: Accelerator,
        *,
        key: str,
        parent: str,
        step: str,
        own: str,
        note: Callable[[str, str], None],
    ) -> None:
        """Create a layer from a waiting builder, whose disk is idle: the layer gets its disk, the builder an overlay on that.

        `note` is called with the layer's id and the file name of the builder's new disk. The layer appears once it is complete.
        """
        machine, layer = self.store.machine(record.name), f"layer-{key[:12]}-{secrets.token_hex(4)}"
        overlay = f"on-{layer}.qcow2"
        sweep(self.store.layers)
        folder = partial_folder(self.store.layers, layer)
        try:
            size_bytes = virtual_bytes(machine / record.disk)
            make_overlay(machine / overlay, self.store.layers / layer / qemu.DISK, size_bytes=size_bytes)
            for name in BOOT_FILES:
                os.link(machine / name, folder / name)
            try:
                qmp(machine, "stop")
                machine_type = transport.save(machine, folder)
            finally:
                qmp(machine, "cont")
            # QEMU releases the disk after it has saved the memory, and opens it again on `cont`. The guest's root filesystem stays
            # frozen (FIFREEZE), so that the disk does not change until the guest gets an order.
            snapshot = {"device": qemu.DRIVE, "snapshot-file": overlay, "format": "qcow2", "mode": "existing"}
            with _or_fail_bake(record.name):
                qmp(machine, "blockdev-snapshot-sync", snapshot)
                os.link(machine / record.disk, folder / qemu.DISK)
                trust.seal(folder, shape(record, accelerator), machine_type)
                kept = {"key": key, "parent": parent, "step": step, "own": own, "source": record.source, "used_at": time.time()}
                size = {"cpus": record.cpus, "memory_mb": record.memory_mb}
                files.write_json(folder / LAYER, {**kept, **size})
                files.keep(folder)
                note(layer, overlay)  # before the rename: an unused layer could be removed
                folder.rename(self.store.layers / layer)
                files.keep(self.store.layers)
        finally:
            files.remove_folder(folder)

    def _is_sound(self, name: str) -> bool:
        """Return whether a layer and everything below it are intact."""
        while folder := self.store.layer(name):
            kept = files.read_json(folder / LAYER)
            if kept is None or not kept.keys() >= _NEEDED or not trust.is_whole(folder):  # or from an earlier release
                return False
            name = str(kept["source"])
        return self.store.is_there(name)

    def use(self, layer: str) -> None:
        """Record the current time as a layer's last use."""
        path = self.store.layers / layer / LAYER
        with self.store.locked():  # so that it is not removed at the same time
            if kept := files.read_json(path):
                files.write_json(path, {**kept, "used_at": time.time()})

    def remove(self, layer: str) -> bool:
        """Remove a layer unless something overlays it; return whether it is gone."""
        with self.store.locked():
            if self.store.users(layer):
                return False
            files.discard(self.store.layers / layer)
        return True


@contextmanager
def _or_fail_bake(builder: str) -> Iterator[None]:
    """Turn every failure into a BakeError: QEMU may already write to its new disk, so the disk in the record may be outdated."""
    try:
        yield
    except (OSError, CloudError) as error:
        why = error.message if isinstance(error, CloudError) else str(error)
        raise GuestError(
            f"builder {builder!r}: its disk was lost while a layer was saved: {why}",
            next_step="Is the disk of this computer full? Bake again, which continues from the previous layer.",
        ) from error


def _layer(folder: Path) -> Layer | None:
    """Return a layer, or None if another process is removing it."""
    kept = files.read_json(folder / LAYER)
    try:
        disk_bytes = virtual_bytes(folder / qemu.DISK)
    except FileNotFoundError:
        return None
    if kept is None or not kept.keys() >= _NEEDED:
        return None
    return Layer(
        id=folder.name,
        key=kept["key"],
        step=kept["step"],
        own=kept["own"],
        parent=kept["parent"],
        used_at=kept["used_at"],
        size_bytes=files.folder_bytes(folder),
        disk_gb=-(-disk_bytes // _GIB),
        cpus=kept["cpus"],
        memory_mb=kept["memory_mb"],
    )
