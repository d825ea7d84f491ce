"""Layers: the disk and memory of a builder at a checkpoint, kept to start other builders from.

A layer is a folder with disk.qcow2, which overlays that of the layer before it or the base, the memory of that instant
(`clouds.local.memory`) and layer.json. The builder continues on an overlay of it. Each has its own id: two
bakes may make equal ones.
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
from clouds.errors import BakeError, CloudError
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
        """Return the layers, the one that was used longest ago first, without those that are damaged or depend on such a one."""
        sound = [folder for folder in visible(self.store.layers) if self._is_sound(folder.name)]
        return sorted((layer for folder in sound if (layer := _layer(folder))), key=lambda layer: layer.used_at)

    def remove_damaged(self) -> None:
        """Remove the layers that are damaged, or depend on such a one, and that nothing else needs."""
        left = [folder.name for folder in visible(self.store.layers) if not self._is_sound(folder.name)]
        while gone := [name for name in left if self.remove(name)]:  # each time those on which nothing depends any more
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
        """Make a layer of a builder that waits, its disk at rest; its disk becomes the layer's, and an overlay on that its own.

        `note` is told the layer's id and the file of the disk that the builder has now. The layer is seen when all of it is there.
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
            # QEMU let go of the disk when it had saved the memory, and took it again with `cont`. The guest's root filesystem is
            # frozen all the time (FIFREEZE), so that the disk stays as it is until it has an order.
            snapshot = {"device": qemu.DRIVE, "snapshot-file": overlay, "format": "qcow2", "mode": "existing"}
            with _at_all_costs(record.name):
                qmp(machine, "blockdev-snapshot-sync", snapshot)
                os.link(machine / record.disk, folder / qemu.DISK)
                trust.seal(folder, shape(record, accelerator), machine_type)
                kept = {"key": key, "parent": parent, "step": step, "own": own, "source": record.source, "used_at": time.time()}
                size = {"cpus": record.cpus, "memory_mb": record.memory_mb}
                files.write_json(folder / LAYER, {**kept, **size})
                files.keep(folder)
                note(layer, overlay)  # first: no moment may be in which nobody seems to need the layer
                folder.rename(self.store.layers / layer)
                files.keep(self.store.layers)
        finally:
            files.remove_folder(folder)

    def _is_sound(self, name: str) -> bool:
        """Say whether a layer and all that it lies on are whole."""
        while folder := self.store.layer(name):
            kept = files.read_json(folder / LAYER)
            if kept is None or not kept.keys() >= _NEEDED or not trust.is_whole(folder):  # or of an earlier release
                return False
            name = str(kept["source"])
        return self.store.is_there(name)

    def use(self, layer: str) -> None:
        """Note that a layer was used now."""
        path = self.store.layers / layer / LAYER
        with self.store.locked():  # nobody removes it meanwhile
            if kept := files.read_json(path):
                files.write_json(path, {**kept, "used_at": time.time()})

    def remove(self, layer: str) -> bool:
        """Remove a layer unless something overlays it; say whether it is gone."""
        with self.store.locked():
            if self.store.users(layer):
                return False
            files.discard(self.store.layers / layer)
        return True


@contextmanager
def _at_all_costs(builder: str) -> Iterator[None]:
    """Let whatever fails here end the bake: QEMU may write to its new disk already, and ours would be an old one from then on."""
    try:
        yield
    except (OSError, CloudError) as error:
        why = error.message if isinstance(error, CloudError) else str(error)
        raise BakeError(
            f"builder {builder}: its disk was lost while a layer was made of it: {why}",
            next_step="Is the disk of this computer full? Bake again, which goes on from the layer before.",
        ) from error


def _layer(folder: Path) -> Layer | None:
    """Return a layer; None for one that somebody else removes meanwhile."""
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
