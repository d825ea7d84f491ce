"""The ledger: what a cloud was asked for, written down so that another process can go on from there.

- `entry`: what it was asked to create, written before it is asked, so that nothing is ever lost from sight.
- `operation`: what it has accepted and not finished yet: tickets of operations that have an id of their own.
- `bake`: what a bake was to make, written before its first entry.
- `position`: how far the console and the log of its builder were read.
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
    """Something that a cloud was asked to create; `cloud` is the key of its account, `asked_at` in seconds since the epoch."""

    cloud: str
    kind: Kind
    name: str
    labels: Mapping[str, str]
    asked_at: float


@dataclass(frozen=True, slots=True)
class BakeNote:
    """A bake under way in the account `cloud`: its order as plain data, and how far its builder was read.

    `console_at` and `log_at` are positions as `Cloud.console` and `StreamsLog.log` take them; `console_rest` is the begin of a line
    whose end comes after `console_at`. `reached` checkpoints had been reached there. `asked_at` is in seconds since the epoch.
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
        """The labels of all that the bake makes, those of its client among them."""
        found = self.order.get("labels")
        return found if isinstance(found, dict) else {}


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

    def begin(self, cloud: str, ticket: Ticket) -> None:
        """Note an operation that a cloud has accepted."""
        with self._open() as connection:
            row = (cloud, ticket.kind, ticket.name, ticket.verb, ticket.operation, time.time())
            connection.execute(
                "INSERT OR REPLACE INTO operation (cloud, kind, name, verb, operation, asked_at) VALUES (?, ?, ?, ?, ?, ?)", row
            )

    def end(self, cloud: str, ticket: Ticket) -> None:
        """Drop the note of an operation that has ended, well or not; one that was asked for anew since then stays."""
        with self._open() as connection:
            key = (cloud, ticket.kind, ticket.name, ticket.verb, ticket.operation)
            connection.execute(
                "DELETE FROM operation WHERE cloud = ? AND kind = ? AND name = ? AND verb = ? AND operation = ?", key
            )

    def tickets(self, cloud: str) -> list[Ticket]:
        """Return the operations of an account that are not known to have ended, oldest first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT verb, kind, name, operation FROM operation WHERE cloud = ? ORDER BY asked_at", (cloud,)
            ).fetchall()
        verbs = get_args(Verb)
        return [
            Ticket(verb, Kind(kind), name, operation) for verb, kind, name, operation in rows if verb in verbs and _is_known(kind)
        ]

    def note_bake(self, cloud: str, bake_id: str, order: Mapping[str, Any]) -> None:
        """Note a bake before it asks for anything."""
        with self._open() as connection:
            row = (cloud, bake_id, json.dumps(dict(order)), time.time())
            connection.execute("INSERT OR REPLACE INTO bake (cloud, id, content, asked_at) VALUES (?, ?, ?, ?)", row)
            connection.execute("DELETE FROM position WHERE cloud = ? AND id = ?", (cloud, bake_id))

    def note_position(
        self, cloud: str, bake_id: str, *, console_at: Position, console_rest: str, log_at: Position, reached: int
    ) -> None:
        """Note how far the builder of a bake was read."""
        with self._open() as connection:
            row = (cloud, bake_id, console_at, console_rest, log_at, reached)
            connection.execute("INSERT OR REPLACE INTO position VALUES (?, ?, ?, ?, ?, ?)", row)

    def forget_bake(self, cloud: str, bake_id: str) -> None:
        """Drop the note of a bake that has ended."""
        with self._open() as connection:
            for table in ("bake", "position"):
                connection.execute(f"DELETE FROM {table} WHERE cloud = ? AND id = ?", (cloud, bake_id))  # noqa: S608 - both are ours

    def bakes(self, cloud: str) -> list[BakeNote]:
        """Return the bakes of an account that have not ended, oldest first; without those that only another release can read."""
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
