"""Read and write small files, so that a process killed at any time leaves none half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clouds.home import read_json as read_json
from clouds.home import read_text as read_text
from clouds.home import write_private
from clouds.partial import partial_path


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record atomically, readable by its owner only."""
    write_private(path, json.dumps(record, indent=1) + "\n")


def is_broken(path: Path) -> bool:
    """Return whether a file exists but is not a valid record."""
    return path.exists() and read_json(path) is None


def text_labels(found: object) -> dict[str, str]:
    """Return labels from a record, keys and values as text; an empty dict if they are not a table."""
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def remove_folder(folder: Path) -> None:
    """Remove a folder and its content, if it exists."""
    shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path) -> None:
    """Flush a folder and its files to disk, so that they survive a crash of this computer."""
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Return the disk usage of a folder's files in bytes; files that disappear during the walk are skipped."""
    total = 0
    for where, _, found in os.walk(folder):
        for name in found:
            with suppress(FileNotFoundError):
                total += Path(where, name).lstat().st_blocks * 512
    return total


def write_private_bytes(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def discard(folder: Path) -> None:
    """Remove a folder atomically: rename it, then delete the files. Needs no free disk space."""
    doomed = partial_path(folder.parent, folder.name)
    with suppress(FileNotFoundError):
        folder.rename(doomed)
    remove_folder(doomed)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as hexadecimal text."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
