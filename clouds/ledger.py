"""The ledger: a record of requests to clouds, from which another process can continue.

- `entry`: a resource to create, written before the request, so that no resource is ever unknown.
- `operation`: tickets of accepted, unfinished operations that have an id.
- `bake`: the order of a bake, written before its first entry.
- `position`: how far the console and the log of its builder have been read.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from clouds.driver import START, Kind, Position, Tell, Ticket, Verb
from clouds.errors import BakehouseError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    cloud TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, labels TEXT NOT NULL, asked_at REAL NOT NULL,
    PRIMARY KEY (cloud, kind, name));
CREATE TABLE IF NOT EXISTS operation (
    cloud TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, verb TEXT NOT NULL, operation TEXT NOT NULL,
    asked_at REAL NOT NULL, PRIMARY KEY (cloud, kind, name, verb));
CREATE TABLE IF NOT EXISTS bake (
    cloud TEXT NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL, asked_at REAL NOT NULL, PRIMARY KEY (cloud, id));
CREATE TABLE IF NOT EXISTS position (
    cloud TEXT NOT NULL, id TEXT NOT NULL, console_at TEXT NOT NULL, console_rest TEXT NOT NULL, log_at TEXT NOT NULL,
    reached INTEGER NOT NULL, PRIMARY KEY (cloud, id));
"""


_BAKES = """
SELECT id, content, coalesce(position.console_at, ''), coalesce(console_rest, ''), coalesce(position.log_at, ''),
    coalesce(position.reached, 0), bake.asked_at
FROM bake LEFT JOIN position USING (cloud, id) WHERE cloud = ? ORDER BY bake.asked_at
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A resource that was requested; `cloud` is the key of its account, `asked_at` is in seconds since the epoch."""

    cloud: str
    kind: Kind
    name: str
    labels: Mapping[str, str]
    asked_at: float


@dataclass(frozen=True, slots=True)
class BakeNote:
    """A running bake in the account `cloud`: its order as plain data, and how far its builder's output has been read.

    `console_at` and `log_at` are positions for `Cloud.console` and `StreamsLog.log`; `console_rest` is the start of a line that
    continues after `console_at`; `reached` is the number of checkpoints before it. `asked_at` is in seconds since the epoch.
    """

    cloud: str
    id: str
    order: Mapping[str, Any]
    console_at: Position = START
    console_rest: str = ""
    log_at: Position = START
    reached: int = 0
    asked_at: float = 0.0

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of everything that the bake creates, including those of its client."""
        found = self.order.get("labels")
        return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


class Ledger:
    """An SQLite file, safe for concurrent processes; each call is one transaction. BakehouseError: it cannot be used.

    With a `tell`, a damaged file is renamed and replaced by an empty one, and `tell` receives a line about it: labels still
    record who owns what.
    """

    def __init__(self, path: Path, tell: Tell | None = None) -> None:
        self._path = path
        self._tell = tell

    def ask(self, cloud: str, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Record a resource before it is requested. A second call replaces the entry."""
        with self._open() as connection:
            row = (cloud, kind, name, json.dumps(dict(labels)), time.time())
            connection.execute("INSERT OR REPLACE INTO entry (cloud, kind, name, labels, asked_at) VALUES (?, ?, ?, ?, ?)", row)

    def forget(self, cloud: str, kind: Kind, name: str) -> None:
        """Remove the entry of a resource that is known not to exist."""
        with self._open() as connection:
            connection.execute("DELETE FROM entry WHERE cloud = ? AND kind = ? AND name = ?", (cloud, kind, name))

    def move(self, entry: Entry, cloud: str) -> None:
        """Move an entry to another account, unless that has one of the same kind and name."""
        key = (entry.cloud, entry.kind, entry.name)
        with self._open() as connection:
            connection.execute("UPDATE OR IGNORE entry SET cloud = ? WHERE cloud = ? AND kind = ? AND name = ?", (cloud, *key))
            connection.execute("DELETE FROM entry WHERE cloud = ? AND kind = ? AND name = ?", key)

    def entries(self, cloud: str) -> list[Entry]:
        """Return the entries for a cloud, oldest first, except those that only another release can read."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT kind, name, labels, asked_at FROM entry WHERE cloud = ? ORDER BY asked_at", (cloud,)
            ).fetchall()
        return [
            Entry(cloud, Kind(kind), name, found, asked_at)
            for kind, name, labels, asked_at in rows
            if _is_known(kind) and (found := _read(labels)) is not None
        ]

    def begin(self, cloud: str, ticket: Ticket) -> None:
        """Record an operation that a cloud has accepted."""
        with self._open() as connection:
            row = (cloud, ticket.kind, ticket.name, ticket.verb, ticket.operation, time.time())
            connection.execute(
                "INSERT OR REPLACE INTO operation (cloud, kind, name, verb, operation, asked_at) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    def end(self, cloud: str, ticket: Ticket) -> None:
        """Remove an operation that has ended, successfully or not; a newer one with the same verb and resource is kept."""
        with self._open() as connection:
            key = (cloud, ticket.kind, ticket.name, ticket.verb, ticket.operation)
            connection.execute(
                "DELETE FROM operation WHERE cloud = ? AND kind = ? AND name = ? AND verb = ? AND operation = ?", key
            )

    def tickets(self, cloud: str) -> list[Ticket]:
        """Return the operations of an account that may still be running, oldest first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT verb, kind, name, operation FROM operation WHERE cloud = ? ORDER BY asked_at", (cloud,)
            ).fetchall()
        verbs = get_args(Verb)
        return [
            Ticket(verb, Kind(kind), name, operation) for verb, kind, name, operation in rows if verb in verbs and _is_known(kind)
        ]

    def note_bake(self, cloud: str, bake_id: str, order: Mapping[str, Any]) -> None:
        """Record a bake before its first request."""
        with self._open() as connection:
            row = (cloud, bake_id, json.dumps(dict(order)), time.time())
            connection.execute("INSERT OR REPLACE INTO bake (cloud, id, content, asked_at) VALUES (?, ?, ?, ?)", row)
            connection.execute("DELETE FROM position WHERE cloud = ? AND id = ?", (cloud, bake_id))

    def take_bake(self, note: BakeNote, order: Mapping[str, Any]) -> bool:
        """Replace the order of an unfinished bake; return False if it has ended or changed: another command has taken it."""
        with self._open() as connection:
            row = (json.dumps(dict(order)), note.cloud, note.id, json.dumps(dict(note.order)))
            done = connection.execute("UPDATE bake SET content = ? WHERE cloud = ? AND id = ? AND content = ?", row)
            return done.rowcount == 1

    def forget_position(self, cloud: str, bake_id: str) -> None:
        """Remove the position of a bake whose builder cannot be followed from there: it waits, or is another one."""
        with self._open() as connection:
            connection.execute("DELETE FROM position WHERE cloud = ? AND id = ?", (cloud, bake_id))

    def note_position(
        self, cloud: str, bake_id: str, *, console_at: Position, console_rest: str, log_at: Position, reached: int
    ) -> None:
        """Record how far the output of a bake's builder has been read."""
        with self._open() as connection:
            row = (cloud, bake_id, console_at, console_rest, log_at, reached)
            connection.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?, ?)", row)

    def forget_bake(self, cloud: str, bake_id: str) -> None:
        """Remove a bake that has ended."""
        with self._open() as connection:
            for table in ("bake", "position"):
                connection.execute(f"DELETE FROM {table} WHERE cloud = ? AND id = ?", (cloud, bake_id))  # noqa: S608 - both are constants

    def bakes(self, cloud: str) -> list[BakeNote]:
        """Return the unfinished bakes of an account, oldest first, except those that only another release can read."""
        with self._open() as connection:
            rows = connection.execute(_BAKES, (cloud,)).fetchall()
        return [
            BakeNote(cloud, bake_id, order, *at) for bake_id, content, *at in rows if (order := _read_object(content)) is not None
        ]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._connect()) as connection, connection:
                yield connection
        except sqlite3.Error as error:
            next_step = "Check that its disk has free space, and that no other user owns the file."
            raise BakehouseError(f"ledger {self._path}: {error}", next_step=next_step) from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file; if it is damaged and there is a `tell`, rename it first and start an empty one."""
        try:
            return _prepared(self._path)
        except sqlite3.DatabaseError as error:
            if self._tell is None or error.sqlite_errorcode not in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
                raise
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
            with suppress(FileNotFoundError):  # another command has renamed it already
                self._path.rename(aside)
            self._tell(f"the ledger is damaged ({error}); started a new one, and kept the old one as {aside}")
            return _prepared(self._path)


def _prepared(path: Path) -> sqlite3.Connection:
    with suppress(OSError):  # reported by SQLite
        path.touch(mode=0o600)
    connection = sqlite3.connect(path, timeout=30)
    try:
        connection.executescript(_SCHEMA)
    except BaseException:
        connection.close()
        raise
    return connection


def _is_known(kind: str) -> bool:
    return kind in Kind.__members__.values()


def _read(labels: str) -> dict[str, str] | None:
    found = _read_object(labels)
    return None if found is None else {str(key): str(value) for key, value in found.items()}


def _read_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
