"""Work folders, named after their process, so that `sweep` can remove those that killed processes have left."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

from clouds.client import Client, Fate, this_client

PARTIAL = ".partial-"
UNKNOWN_CLIENT_S = 24 * 3600
"""How long after its last change the work folder of a process that this computer cannot see is kept, in seconds: the process may
run in a container, or on another computer with the same home folder."""

_OWNER = re.compile(r"(?P<pid>\d+)-(?P<start>\d+)-(?:(?P<computer>[hc][0-9a-f]{24})-)?")
"""What follows PARTIAL in the name; older releases wrote no computer."""


def partial_folder(parent: Path, name: str) -> Path:
    """Create a work folder named after this process, so that `sweep` can check whether the process is dead."""
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = partial_path(parent, name)
    folder.mkdir(mode=0o700)
    return folder


def partial_path(parent: Path, name: str) -> Path:
    """Return the path of a work folder named after this process; an existing one is removed."""
    folder = parent / partial_name(this_client(), name)
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def partial_name(client: Client, name: str) -> str:
    """Return the name of a client's work folder."""
    computer = f"{client.computer}-" if client.computer else ""
    return f"{PARTIAL}{client.pid}-{client.start}-{computer}{name}"


def sweep(parent: Path) -> None:
    """Remove the work folders of dead processes."""
    for folder in _partial_folders(parent):
        if not _may_be_in_use(folder):
            shutil.rmtree(folder, ignore_errors=True)


def is_under_way(parent: Path, name: str) -> bool:
    """Return whether a process that may be alive has a work folder of this name."""
    return any(folder.name.endswith(f"-{name}") and _may_be_in_use(folder) for folder in _partial_folders(parent))


def _partial_folders(parent: Path) -> list[Path]:
    try:
        return [Path(found.path) for found in os.scandir(parent) if found.name.startswith(PARTIAL)]
    except FileNotFoundError:  # another command may be removing it
        return []


def _may_be_in_use(folder: Path) -> bool:
    owner = _OWNER.match(folder.name.removeprefix(PARTIAL))
    if owner is None:  # not from Bakehouse
        return True
    try:
        changed_at = folder.stat().st_mtime
    except FileNotFoundError:
        return False
    client = Client(owner["computer"] or "", int(owner["pid"]), int(owner["start"]))
    fate = client.fate(made_at=changed_at)
    return fate is Fate.ALIVE or (fate is Fate.UNKNOWN and time.time() - changed_at < UNKNOWN_CLIENT_S)
