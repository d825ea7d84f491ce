"""The store of bases: find one, or build it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from clouds.driver import Base, BaseImage, Tell
from clouds.errors import CloudError
from clouds.local.base.definition import Definition, base_id, define
from clouds.local.disk.overlays import virtual_bytes
from clouds.local.host import files
from clouds.locks import locked
from clouds.partial import partial_folder, sweep

_DISK = "disk.qcow2"
_RECORD = "base.json"
_GRACE_S = 24 * 3600
_DOWNLOAD = ("Err:", "Failed to fetch", "index files failed", "Unable to fetch")
"""Words of apt when a download fails (apt-pkg/update.cc, apt-private/private-install.cc, apt-private/acqprogress.cc)."""
BUILD_S = 2 * 3600.0
"""How long to wait for another command that builds a base."""
OWNER = "bakehouse, built on this computer"


@dataclass(frozen=True, slots=True)
class Bases:
    """The folder of bases; each is a subfolder named by its id, with disk.qcow2, boot files and base.json."""

    folder: Path

    def resolve(self, base: Base, *, refresh: bool, tell: Tell) -> BaseImage:
        """Return the newest base of this definition; build one if there is none or `refresh` is set.

        If its packages cannot be installed, return the base without them; this is stored until `refresh`, too.
        """
        definition = define(base)
        found = None if refresh else self.kept(base)
        if found is not None:
            return found
        try:
            return self._image(self._found_or_built(definition, tell, refresh=refresh), base)
        except CloudError as error:
            if not base.packages:
                raise
            why = error.message.partition("; ")[0]  # what follows is how mmdebstrap called apt
            tell(f"base: could not install the packages of the recipe, a builder will install them ({why})")
            plain = self.resolve(_without_packages(base), refresh=refresh, tell=tell)
            if is_lasting(error):
                self._note_failure(plain.id, definition)
            return plain

    def kept(self, base: Base) -> BaseImage | None:
        """Return the newest base of this definition, or the one without packages that takes its place, or None."""
        definition = define(base)
        if found := self._newest(definition):
            return self._image(found, base)
        if not base.packages:
            return None
        plain = self.kept(_without_packages(base))
        return plain if plain and definition.digest in self._failures(plain.id) else None

    def path(self, name: str) -> Path | None:
        """Return the folder of a base, or None."""
        folder = self.folder / name
        return folder if name.startswith("base-") and (folder / _RECORD).exists() else None

    def suite(self, folder: Path) -> str:
        """Return the Debian suite of a base."""
        record = files.read_json(folder / _RECORD)
        return str(record.get("suite", "")) if record else ""

    def prune(self, in_use: set[str]) -> None:
        """Remove bases that nothing overlays, except the newest of each definition and those checked in the last 24 hours.

        The newest with packages of a recipe is removed as well: each change of the recipe's list makes another definition.
        """
        newest = {record["definition"]: name for name, record in self._records() if not record.get("added")}
        for name, record in self._records():
            is_newest = name == newest.get(record["definition"])
            if name not in in_use and not is_newest and time.time() - record["checked_at"] > _GRACE_S:
                files.remove_folder(self.folder / name)

    def _records(self) -> list[tuple[str, dict[str, Any]]]:
        found = [(path.parent.name, files.read_json(path)) for path in self.folder.glob(f"base-*/{_RECORD}")]
        sound = [(name, record) for name, record in found if record and {"definition", "checked_at"} <= record.keys()]
        return sorted(sound, key=lambda item: item[1]["checked_at"])

    def _newest(self, definition: Definition, since: float = 0) -> str | None:
        names = [
            name for name, record in self._records() if record["definition"] == definition.digest and record["checked_at"] >= since
        ]
        return names[-1] if names else None

    def _image(self, name: str, base: Base) -> BaseImage:
        """Return the record of a base; only one with packages may need a larger disk than any recipe has."""
        size_bytes = virtual_bytes(self.folder / name / _DISK) if base.packages else 0
        return BaseImage(name, OWNER, base, disk_gb=-(-size_bytes // 2**30))

    def _failures(self, name: str) -> list[str]:
        """Return the definitions with packages that could not be built, and whose place this base takes."""
        record = files.read_json(self.folder / name / _RECORD) or {}
        failed = record.get("failed", [])
        return failed if isinstance(failed, list) else []

    def _note_failure(self, name: str, definition: Definition) -> None:
        record = files.read_json(self.folder / name / _RECORD)
        if record:
            files.write_json(self.folder / name / _RECORD, {**record, "failed": [*self._failures(name), definition.digest]})

    def _found_or_built(self, definition: Definition, tell: Tell, *, refresh: bool) -> str:
        asked_at = time.time()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder / ".lock", what="another command to build a base", timeout_s=BUILD_S, tell=tell):
            return self._newest(definition, since=asked_at if refresh else 0) or self._build(definition, tell)

    def _build(self, definition: Definition, tell: Tell) -> str:
        """Build a base. If the result equals a stored base, keep that one and update its `checked_at`."""
        from clouds.local.base.build import build  # a launch need not load it

        sweep(self.folder)
        scratch = partial_folder(self.folder, "base")
        try:
            built = build(definition, scratch, tell)
            name = base_id(definition.digest, built.packages)
            record = {
                "suite": definition.base.suite,
                "definition": definition.digest,
                "packages": built.packages.splitlines(),
                "added": list(definition.base.packages),
                "checked_at": time.time(),
            }
            if self.path(name) is None:
                files.write_json(scratch / _RECORD, record)
                files.keep(scratch)
                files.remove_folder(self.folder / name)
                scratch.rename(self.folder / name)
            else:
                files.write_json(self.folder / name / _RECORD, record)
        finally:
            files.remove_folder(scratch)
        return name


def is_lasting(error: CloudError) -> bool:
    """Return whether a build that failed with this error would fail again: not where the disk was full or a download failed."""
    return type(error) is CloudError and not any(words in error.message for words in _DOWNLOAD)


def _without_packages(base: Base) -> Base:
    return replace(base, packages=())
