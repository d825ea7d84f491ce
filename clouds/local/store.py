"""Where the local cloud stores its files on this computer, and which disk overlays which.

    bases/base-ID/       disk.qcow2, boot files, base.json            kept while something overlays it
    layers/ID/           disk.qcow2, boot files, state, memory.json, layer.json
    images/NAME/         disk.qcow2, boot files, manifest.json, files/, memory/ (disk.qcow2, ram, state, memory.json)
    machines/NAME/       disk.qcow2, boot files, machine.json, console.log, steps.log, input of the guest, sockets
    locks/NAME           held by a command that starts that machine
    accelerator.json

New things are prepared in a sibling folder `.partial-...` and renamed last; removal renames first. One lock protects the moments
at which a disk gets or loses an overlay.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clouds.errors import NotFoundError
from clouds.local.base.bases import Bases
from clouds.local.host import files
from clouds.local.vm.record import MACHINE
from clouds.locks import locked
from clouds.names import is_name
from clouds.partial import sweep

MANIFEST = "manifest.json"
LAYER = "layer.json"
LOCK_S = 600.0
"""How long to wait for another command that prepares or removes a disk."""


@dataclass(frozen=True, slots=True)
class Store:
    """The folder of the local cloud."""

    folder: Path

    @property
    def bases(self) -> Bases:
        """The bases in this store."""
        return Bases(self.folder / "bases")

    @property
    def images(self) -> Path:
        """The folder of images."""
        return self.folder / "images"

    @property
    def layers(self) -> Path:
        """The folder of layers."""
        return self.folder / "layers"

    @property
    def machines(self) -> Path:
        """The folder of machines."""
        return self.folder / "machines"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock under which a disk gets or loses an overlay."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder / ".lock", what="another command to change disks of the local cloud", timeout_s=LOCK_S):
            yield

    def machine_lock(self, name: str) -> Path:
        """Return the lock file of a machine; it is outside the machine's folder, which may be removed while the lock is held."""
        folder = self.folder / "locks"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / name

    def machine(self, name: str) -> Path:
        """Return a machine's folder. NotFoundError: no such machine."""
        return self._existing(self.machines, name, f"machine {name!r}", "See: ./inv machines")

    def image(self, name: str) -> Path:
        """Return an image's folder. NotFoundError: no such image."""
        return self._existing(self.images, name, f"image {name!r}", "See: ./inv images")

    def source(self, name: str) -> Path:
        """Return the folder of the base, layer or image of this name. NotFoundError: none exists."""
        return self.bases.path(name) or self.layer(name) or self.image(name)

    def is_there(self, name: str) -> bool:
        """Return whether a base, layer or image of this name exists."""
        return bool(self.bases.path(name) or self.layer(name) or (self.images / name).is_dir())

    def layer(self, name: str) -> Path | None:
        """Return the folder of a layer, or None."""
        folder = self.layers / name
        return folder if name.startswith("layer-") and (folder / LAYER).exists() else None

    def below_layers(self, name: str) -> str:
        """Return the base or image below a stack of layers; the name itself if it is not a layer."""
        while (folder := self.layer(name)) and (kept := files.read_json(folder / LAYER)):
            name = str(kept.get("source", ""))
        return name

    def suite(self, name: str) -> str:
        """Return the Debian suite of a base, or of the base below an image or layer."""
        while (base := self.bases.path(name := self.below_layers(name))) is None:
            manifest = files.read_json(self.image(name) / MANIFEST)
            name = str(manifest.get("source", "")) if manifest else ""
        return self.bases.suite(base)

    def users(self, name: str) -> list[str]:
        """Return the machines, images and layers, as `machine NAME`, that overlay a base, an image or a layer.

        A machine or image with an unreadable record may overlay anything, so it counts. A layer with one is useless, and does not.
        """
        machines = [f"machine {path.name}" for path in visible(self.machines) if _source(path, MACHINE) in (name, None)]
        images = [
            f"image {path.name}"
            for path in self.images.glob("[!.]*")
            if path.name != name and _source(path, MANIFEST) in (name, None)
        ]
        # A layer in preparation uses what it overlays, too.
        layers = [f"layer {path.name}" for path in self.layers.glob("*") if _source(path, LAYER) == name]
        return machines + images + layers

    def prune_bases(self) -> None:
        """Remove old bases that nothing overlays."""
        with self.locked():
            self.bases.prune({path.name for path in visible(self.bases.folder) if self.users(path.name)})

    def sweep(self) -> None:
        """Remove unfinished work of dead processes."""
        things = (*visible(self.images), *visible(self.machines))  # memory is saved inside the folder of its image or machine
        for folder in (self.bases.folder, self.layers, self.images, self.machines, *things):
            sweep(folder)

    def _existing(self, folder: Path, name: str, what: str, advice: str) -> Path:
        if not is_name(name) or not (folder / name).is_dir():
            raise NotFoundError(f"{what} not found on local", next_step=advice)
        return folder / name


def _source(folder: Path, file: str) -> str | None:
    """Return what a machine, image or layer overlays: None if its record is unreadable, "" if it has none (being removed)."""
    kept = files.read_json(folder / file)
    if kept is None:
        return None if files.is_broken(folder / file) else ""
    source = kept.get("source")
    return source if isinstance(source, str) else None


def visible(folder: Path) -> list[Path]:
    """Return the finished subfolders, without hidden ones. OSError: the folder cannot be read."""
    try:
        found = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    return [path for path in found if not path.name.startswith(".") and path.is_dir()]
