"""The files of a bake in BAKEHOUSE_HOME/bakes/ID: console, log of the steps, result."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clouds.home import write_private


@dataclass(frozen=True, slots=True)
class Record:
    """The folder of one bake."""

    folder: Path

    @property
    def home(self) -> Path:
        """BAKEHOUSE_HOME."""
        return self.folder.parents[1]

    @property
    def console(self) -> Path:
        """The output of the builder's console."""
        return self.folder / "console.log"

    @property
    def steps(self) -> Path:
        """The full output of the steps, where the cloud has a channel for it."""
        return self.folder / "steps.log"

    @property
    def tests(self) -> Path:
        """The console output of the machine that tested the image."""
        return self.folder / "tests.log"

    @property
    def packages(self) -> Path:
        """The list of packages that the finished disk has (`launcher.packages`); empty if it has none."""
        return self.folder / "packages.cdx.json"

    @property
    def result(self) -> Path:
        """The result of the bake, as JSON."""
        return self.folder / "result.json"

    def finish(self, result: Mapping[str, object]) -> None:
        """Write the result of the bake."""
        write_private(self.result, json.dumps(result, indent=2) + "\n")

    def files(self) -> dict[str, Path]:
        """Return the existing files by name."""
        return {path.name: path for path in sorted(self.folder.iterdir()) if path.is_file()}


def open_record(home: Path, bake_id: str) -> Record:
    """Return the folder of a bake (0700), created if missing."""
    folder = home / "bakes" / bake_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Record(folder)
