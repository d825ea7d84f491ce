"""BAKEHOUSE_HOME, the folder with Bakehouse's state on this computer."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clouds.errors import UsageError


def home() -> Path:
    """Return the folder for all state (0700, created if missing): BAKEHOUSE_HOME, else the platform's data directory.

    UsageError: it cannot be created or written.
    """
    if chosen := os.environ.get("BAKEHOUSE_HOME"):
        path = Path(chosen).absolute()
    else:
        from platformdirs import user_data_path

        path = user_data_path("bakehouse", appauthor=False)
    where = f"BAKEHOUSE_HOME: {path}" if chosen else str(path)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise UsageError(f"{where} is not a folder", next_step="Set BAKEHOUSE_HOME to a folder that you can write to.") from error
    except OSError as error:
        raise UsageError(f"{where}: {error.strerror}", next_step="Set BAKEHOUSE_HOME to a folder that you can write to.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"{where}: not writable", next_step="Set BAKEHOUSE_HOME to a folder that you can write to.")
    return path


@contextmanager
def names_file(path: Path) -> Iterator[None]:
    """Add the file name to an OSError: the error of a write to an open file has none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if the file is missing or unreadable."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read_text(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read (0600), atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with names_file(path), os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
