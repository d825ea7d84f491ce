"""Folders in which something is prepared, named after their process, so that what a killed one has left can be told."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from clouds.names import process_start

PARTIAL = ".partial-"


def partial_folder(parent: Path, name: str) -> Path:
    """Make a folder in which something is prepared, named after this process so that `sweep` can tell when it is dead."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = parent / f"{PARTIAL}{os.getpid()}-{process_start(os.getpid())}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    return folder


def sweep(parent: Path) -> None:
    """Remove the folders that dead processes were preparing."""
    for folder in parent.glob(f"{PARTIAL}*"):
        pid, start = folder.name.removeprefix(PARTIAL).split("-")[:2]
        if process_start(int(pid)) != int(start):
            shutil.rmtree(folder, ignore_errors=True)
