"""Small files, such that a process killed at any instant leaves nothing half-written."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from clouds.home import write_private
from clouds.partial import partial_path


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record for its owner's eyes only, whole or not at all."""
    write_private(path, json.dumps(record, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a record; None when it is absent or cannot be read as one: `is_broken` tells which."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def read_text(path: Path) -> str:
    """Return the text of a file, "" when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def is_broken(path: Path) -> bool:
    """Say whether there is a file that is no record."""
    return path.exists() and read_json(path) is None


def text_labels(found: object) -> dict[str, str]:
    """Return labels as text, whatever somebody has written into a record: none where they are no table."""
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def remove_folder(folder: Path) -> None:
    """Remove a folder with all it holds; absent is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def keep(folder: Path) -> None:
    """Write a folder and its files through to the disk, so that they survive a crash of this computer."""
    for path in (*(path for path in folder.iterdir() if path.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def folder_bytes(folder: Path) -> int:
    """Return what the files of a folder occupy on the disk; what goes meanwhile, folders too, counts for nothing."""
    total = 0
    for where, _, found in os.walk(folder):
        for name in found:
            with suppress(FileNotFoundError):
                total += Path(where, name).lstat().st_blocks * 512
    return total


def write_private_bytes(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def discard(folder: Path) -> None:
    """Remove a folder such that it is either there or, whatever happens on the way, gone for good. It needs no room on the disk."""
    doomed = partial_path(folder.parent, folder.name)
    with suppress(FileNotFoundError):
        folder.rename(doomed)
    remove_folder(doomed)


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
