"""Images: frozen disks with boot files and a manifest, written under a temporary name and renamed last."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clouds.driver import Kind, Resource, State
from clouds.errors import ConflictError, InvalidError, NotFoundError
from clouds.local.base.esp import take_boot_files
from clouds.local.disk.overlays import freeze
from clouds.local.host import files
from clouds.local.host.command import free_bytes, full_disk
from clouds.local.store import MANIFEST, Store, visible
from clouds.local.vm import qemu
from clouds.local.vm.record import MachineRecord
from clouds.names import PROJECT
from clouds.partial import partial_folder, sweep

_SPARE_BYTES = 64 * 2**20
_FILES = "files"
_YEAR_10000 = 253402300800
"""The first time that Python cannot print, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a store."""

    store: Store

    def snapshot(self, record: MachineRecord, image: str, labels: Mapping[str, str]) -> None:
        """Create an image from the disk of a stopped machine, as an overlay on its base or on the image it was launched from."""
        machine = self.store.machine(record.name)
        if qemu.is_alive(machine):
            raise InvalidError(f"machine {record.name!r} is still running", next_step=f"Stop it first: ./inv stop {record.name}")
        if (self.store.images / image).exists():
            raise _taken(image)
        if free_bytes(self.store.folder) < _SPARE_BYTES:
            raise full_disk(self.store.folder, f"image {image}", _SPARE_BYTES)
        sweep(self.store.images)
        folder = partial_folder(self.store.images, image)
        try:
            self._fill(folder, machine, record, labels)
            with self.store.locked():
                if (self.store.images / image).exists():
                    raise _taken(image)
                folder.rename(self.store.images / image)
            files.keep(self.store.images)
        finally:
            files.remove_folder(folder)

    def remove(self, name: str) -> None:
        """Remove an image. ConflictError while something overlays it."""
        with self.store.locked():
            if users := self.store.users(name):
                advice = f"Delete it first: ./inv delete {users[0].partition(' ')[2]}"
                raise ConflictError(f"image {name!r} is in use by {', '.join(users)}", next_step=advice)
            files.discard(self.store.images / name)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of an image."""
        with self.store.locked():
            path = self.store.image(name) / MANIFEST
            manifest = _manifest(path.parent)
            files.write_json(path, {**manifest, "labels": {**manifest.get("labels", {}), **labels}})

    def resources(self) -> list[Resource]:
        """Return all images."""
        return [found for folder in visible(self.store.images) if (found := self.find(folder.name))]

    def find(self, name: str) -> Resource | None:
        """Return one image, or None; also None if another process is removing it."""
        folder = self.store.images / name
        manifest, size_bytes = files.read_json(folder / MANIFEST), files.folder_bytes(folder)
        if manifest is None and not files.is_broken(folder / MANIFEST):
            return None
        labels, created_at = (manifest.get("labels"), manifest.get("created_at", 0)) if manifest else (None, 0)
        if not (isinstance(labels, dict) and isinstance(created_at, int | float) and 0 <= created_at < _YEAR_10000):
            return Resource(Kind.IMAGE, name, State.BROKEN, _labels_by_name(name), size_bytes=size_bytes)
        return Resource(Kind.IMAGE, name, State.READY, files.text_labels(labels), float(created_at), size_bytes)

    def attach(self, name: str, given: Mapping[str, Path]) -> None:
        """Copy files into the folder of an image, each atomically."""
        folder = self.store.image(name) / _FILES
        folder.mkdir(mode=0o700, exist_ok=True)
        for file, path in given.items():
            temporary = folder / f".{file}"
            shutil.copyfile(path, temporary)
            temporary.replace(folder / file)

    def attached(self, name: str, file: str) -> Path | None:
        """Return the path of an attached file, or None."""
        path = self.store.images / name / _FILES / file
        return path if path.is_file() else None

    def _fill(self, folder: Path, machine: Path, record: MachineRecord, labels: Mapping[str, str]) -> None:
        source = self.store.below_layers(record.source)
        below, is_layered = self.store.source(source) / qemu.DISK, source != record.source
        freeze(machine / record.disk, folder / qemu.DISK, below, is_layered=is_layered)
        take_boot_files(folder / qemu.DISK, folder)
        manifest = {
            "labels": dict(labels),
            "source": source,
            "created_at": time.time(),
            "disk_bytes": (folder / qemu.DISK).stat().st_size,
            "disk_sha256": files.sha256(folder / qemu.DISK),
        }
        files.write_json(folder / MANIFEST, manifest)
        files.keep(folder)


def _labels_by_name(image: str) -> dict[str, str]:
    """Return the labels that follow from a name such as jupyter-1.4.0-7: a broken image still occupies its version."""
    recipe, _, version = image.rpartition("-")[0].rpartition("-")
    found = {"project": PROJECT, "role": "image", "recipe": recipe}
    return found | {"version": f"{version}-{image.rpartition('-')[2]}"}


def _manifest(folder: Path) -> dict[str, Any]:
    manifest = files.read_json(folder / MANIFEST)
    if manifest is None:
        raise NotFoundError(f"image {folder.name!r} not found on local", next_step="See: ./inv images")
    return manifest


def _taken(image: str) -> ConflictError:
    return ConflictError(f"image {image!r} already exists", next_step="Use the next version.")
