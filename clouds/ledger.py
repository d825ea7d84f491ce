"""The ledger: what we asked a cloud to create, written before we ask, so that nothing is ever lost from sight."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from clouds.driver import Kind
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
    """An SQLite file; safe for several processes at once, each call one transaction. Raises BakehouseError: it cannot be used."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, cloud: str, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Note that a resource is about to be asked for. Asking again replaces the note."""
        with self._open() as connection:
            row = (cloud, kind, name, json.dumps(dict(labels)), time.time())
            connection.execute("INSERT OR REPLACE INTO entry VALUES (?, ?, ?, ?, ?)", row)

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
        """Return the notes for a cloud, oldest first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT kind, name, labels, asked_at FROM entry WHERE cloud = ? ORDER BY asked_at", (cloud,)
            ).fetchall()
        return [Entry(cloud, Kind(kind), name, json.loads(labels), asked_at) for kind, name, labels, asked_at in rows]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=30)) as connection, connection:
                connection.execute(_SCHEMA)
                yield connection
        except sqlite3.Error as error:
            next_step = "See that its disk has room, and that no other user owns it."
            raise BakehouseError(f"ledger {self._path}: {error}", next_step=next_step) from error
