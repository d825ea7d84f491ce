"""The store of bases: find one, or build it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clouds.driver import Base, BaseImage, Tell
from clouds.local.base.definition import Definition, base_id, define
from clouds.local.host import files
from clouds.locks import locked
from clouds.partial import partial_folder, sweep

_RECORD = "base.json"
_GRACE_S = 24 * 3600
BUILD_S = 2 * 3600.0
"""How long to wait for another command that builds a base."""
OWNER = "bakehouse, built on this computer"


@dataclass(frozen=True, slots=True)
class Bases:
    """The folder of bases; each is a subfolder named by its id, with disk.qcow2, boot files and base.json."""

    folder: Path

    def resolve(self, base: Base, *, refresh: bool, tell: Tell) -> BaseImage:
        """Return the newest base of this definition; build one if there is none or `refresh` is set."""
        definition = define(base)
        asked_at = time.time()
        found = None if refresh else self._newest(definition)
        if found is None:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.folder / ".lock", what="another command to build the base", timeout_s=BUILD_S, tell=tell):
                found = self._newest(definition, since=asked_at if refresh else 0) or self._build(definition, tell)
        return BaseImage(found, OWNER, base)

    def kept(self, base: Base) -> BaseImage | None:
        """Return the newest base of this definition, or None."""
        found = self._newest(define(base))
        return BaseImage(found, OWNER, base) if found else None

    def path(self, name: str) -> Path | None:
        """Return the folder of a base, or None."""
        folder = self.folder / name
        return folder if name.startswith("base-") and (folder / _RECORD).exists() else None

    def suite(self, folder: Path) -> str:
        """Return the Debian suite of a base."""
        record = files.read_json(folder / _RECORD)
        return str(record.get("suite", "")) if record else ""

    def prune(self, in_use: set[str]) -> None:
        """Remove bases that nothing overlays, except the newest of each definition and those checked in the last 24 hours."""
        newest = {record["definition"]: name for name, record in self._records()}
        for name, record in self._records():
            if name not in in_use and name != newest[record["definition"]] and time.time() - record["checked_at"] > _GRACE_S:
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
