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
    folder = partial_path(parent, name)
    folder.mkdir(mode=0o700)
    return folder


def partial_path(parent: Path, name: str) -> Path:
    """Return where a folder may come to lie that is named after this process; nothing is there."""
    folder = parent / f"{PARTIAL}{os.getpid()}-{process_start(os.getpid())}-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def sweep(parent: Path) -> None:
    """Remove the folders that dead processes were preparing or removing."""
    for folder in _partial_folders(parent):
        if not _owner_lives(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_under_way(parent: Path, name: str) -> bool:
    """Say whether a process that lives is preparing a folder of this name."""
    return any(folder.name.endswith(f"-{name}") and _owner_lives(folder) for folder in _partial_folders(parent))


def _partial_folders(parent: Path) -> list[Path]:
    try:
        return [Path(found.path) for found in os.scandir(parent) if found.name.startswith(PARTIAL)]
    except FileNotFoundError:  # it may be going this very moment
        return []


def _owner_lives(folder: Path) -> bool:
    pid, start = folder.name.removeprefix(PARTIAL).split("-")[:2]
    return process_start(int(pid)) == int(start)
