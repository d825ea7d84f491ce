"""The ledger: what we asked a cloud to create, written before we ask, so that nothing is ever lost from sight."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from clouds.driver import Kind, Tell
from clouds.errors import BakehouseError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    cloud TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, asked_at REAL NOT NULL,
    PRIMARY KEY (cloud, kind, name))
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that a cloud was asked to create; `cloud` is the key of its account, `asked_at` in seconds since the epoch."""

    cloud: str
    kind: Kind
    name: str
    labels: Mapping[str, str]
    asked_at: float


class Ledger:
    """An SQLite file; safe for several processes at once, each call one transaction. Raises BakehouseError: it cannot be used.

    With a `tell`, one that is damaged is set aside and begun anew, which `tell` hears: labels still say what belongs to whom.
    """

    def __init__(self, path: Path, tell: Tell | None = None) -> None:
        self._path = path
        self._tell = tell

    def ask(self, cloud: str, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Note that a resource is about to be asked for. Asking again replaces the note."""
        with self._open() as connection:
            row = (cloud, kind, name, json.dumps(dict(labels)), time.time())
            connection.execute("INSERT OR REPLACE INTO entry (cloud, kind, name, labels, asked_at) VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, cloud: str, kind: Kind, name: str) -> None:
        """Drop the note of a resource that is known to be gone."""
        with self._open() as connection:
            connection.execute("DELETE FROM entry WHERE cloud = ? AND kind = ? AND name = ?", (cloud, kind, name))

    def move(self, entry: Entry, cloud: str) -> None:
        """Give a note to another account, unless that has one of the same kind and name."""
        key = (entry.cloud, entry.kind, entry.name)
        with self._open() as connection:
            connection.execute("UPDATE OR IGNORE entry SET cloud = ? WHERE cloud = ? AND kind = ? AND name = ?", (cloud, *key))
            connection.execute("DELETE FROM entry WHERE cloud = ? AND kind = ? AND name = ?", key)

    def entries(self, cloud: str) -> list[Entry]:
        """Return the notes for a cloud, oldest first; without those that only another release can read."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT kind, name, labels, asked_at FROM entry WHERE cloud = ? ORDER BY asked_at", (cloud,)
            ).fetchall()
        return [
            Entry(cloud, Kind(kind), name, found, asked_at)
            for kind, name, labels, asked_at in rows
            if _is_known(kind) and (found := _read(labels)) is not None
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            next_step = "See that its disk has room, and that no other user owns it."
            raise BakehouseError(f"ledger {self._path}: {error}", next_step=next_step) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file, set aside first if it is damaged and somebody hears of it."""
        try:
            return _prepared(self._path)
        except sqlite3.DatabaseError as error:
            if self._tell is None or error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            with suppress(FileNotFoundError):  # another command was faster
                self._path.rename(aside)
            self._tell(f"the ledger was damaged ({error}) and is begun anew; the old one is kept as {aside}")
            return _prepared(self._path)


def _prepared(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.execute(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_known(kind: str) -> bool:
    return kind in Kind.__members__.values()


def _read(labels: str) -> dict[str, str] | None:
    try:
        found = json.loads(labels)
    except ValueError:
        return None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else None
