"""What is kept of a bake: its console, its steps' log and its result, in BAKEHOUSE_HOME/bakes/ID."""

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
    def console(self) -> Path:
        """Everything that the builder's console printed."""
        return self.folder / "console.log"

    @property
    def steps(self) -> Path:
        """The full output of the steps, where the cloud has a channel for it."""
        return self.folder / "steps.log"

    @property
    def tests(self) -> Path:
        """Everything that the console of the machine printed on which the image was tested."""
        return self.folder / "tests.log"

    @property
    def packages(self) -> Path:
        """The packages of the finished disk with their versions, as JSON."""
        return self.folder / "packages.json"

    @property
    def result(self) -> Path:
        """How the bake ended, as JSON."""
        return self.folder / "result.json"

    def finish(self, result: Mapping[str, object]) -> None:
        """Write down how the bake ended."""
        write_private(self.result, json.dumps(result, indent=2) + "\n")

    def files(self) -> dict[str, Path]:
        """Return the files that there are, by name."""
        return {path.name: path for path in sorted(self.folder.iterdir()) if path.is_file()}


def open_record(home: Path, bake_id: str) -> Record:
    """Make the folder of a bake (0700)."""
    folder = home / "bakes" / bake_id
    folder.mkdir(mode=0o700, parents=True)
    return Record(folder)
