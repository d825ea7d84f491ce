import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from clouds.driver import START, Kind, Position
from clouds.errors import BakehouseError
from clouds.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3")


def names_in(ledger: Ledger, cloud: str = "fake") -> list[str]:
    return [entry.name for entry in ledger.entries(cloud)]


def test_empty_ledger_has_no_entries(ledger: Ledger) -> None:
    assert ledger.entries("fake") == []


def test_what_was_asked_is_read_back_oldest_first(ledger: Ledger) -> None:
    ledger.ask("fake", Kind.MACHINE, "b", {"owner": "me"})
    ledger.ask("fake", Kind.IMAGE, "a", {})
    first, second = ledger.entries("fake")
    assert (first.kind, first.name, first.labels) == (Kind.MACHINE, "b", {"owner": "me"})
    assert (second.kind, second.name) == (Kind.IMAGE, "a")
    assert first.asked_at <= second.asked_at


def test_entries_are_kept_apart_by_cloud_and_kind(ledger: Ledger) -> None:
    for cloud, kind in [("fake", Kind.MACHINE), ("fake", Kind.IMAGE), ("other", Kind.MACHINE)]:
        ledger.ask(cloud, kind, "a", {})
    ledger.forget("fake", Kind.MACHINE, "a")
    assert [(entry.kind, entry.name) for entry in ledger.entries("fake")] == [(Kind.IMAGE, "a")]
    assert names_in(ledger, "other") == ["a"]


def test_asking_again_replaces_the_entry(ledger: Ledger) -> None:
    ledger.ask("fake", Kind.MACHINE, "a", {"bake": "1"})
    ledger.ask("fake", Kind.MACHINE, "a", {"bake": "2"})
    assert [entry.labels["bake"] for entry in ledger.entries("fake")] == ["2"]


def test_forgetting_what_is_not_there_is_fine(ledger: Ledger) -> None:
    ledger.forget("fake", Kind.MACHINE, "a")
    assert names_in(ledger) == []


WRITER = """
import sys
from pathlib import Path
from clouds.driver import START, Kind, Position
from clouds.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
for number in range(30):
    ledger.ask("fake", Kind.MACHINE, f"{sys.argv[2]}-{number}", {})
    if number % 2:
        ledger.forget("fake", Kind.MACHINE, f"{sys.argv[2]}-{number}")
"""


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), who]) for who in "abc"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert sorted(names_in(Ledger(path))) == sorted(f"{who}-{number}" for who in "abc" for number in range(0, 30, 2))


KILLED_WRITER = """
import os, sys
from pathlib import Path
from clouds.driver import START, Kind, Position
from clouds.ledger import Ledger
Ledger(Path(sys.argv[1])).ask("fake", Kind.MACHINE, "a", {})
os.kill(os.getpid(), 9)
"""


def test_entry_stands_once_asked_even_when_the_process_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    assert subprocess.run([sys.executable, "-c", KILLED_WRITER, str(path)], check=False).returncode == -9
    assert names_in(Ledger(path)) == ["a"]


def test_ledger_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite3").write_text("this is no database, but a text that is long enough to look at" * 20)
    with pytest.raises(BakehouseError, match=r"ledger\.sqlite3: file is not a database"):
        Ledger(tmp_path / "ledger.sqlite3").ask("fake", Kind.MACHINE, "a", {})
    with pytest.raises(BakehouseError, match="unable to open"):
        Ledger(tmp_path / "nosuch" / "ledger.sqlite3").entries("fake")


def test_ledger_that_is_damaged_is_set_aside_and_begun_anew_where_somebody_hears_of_it(tmp_path: Path) -> None:
    path, said = tmp_path / "ledger.sqlite3", list[str]()
    path.write_text("this is no database, but a text that is long enough to look at" * 20)
    ledger = Ledger(path, said.append)
    ledger.ask("fake", Kind.MACHINE, "a", {})
    assert names_in(ledger) == ["a"]
    assert len(said) == 1
    assert [found.name in said[0] for found in tmp_path.glob("ledger.sqlite3.damaged-*")] == [True]


def test_note_that_only_another_release_can_read_costs_nobody_else_anything(tmp_path: Path, ledger: Ledger) -> None:
    ledger.ask("fake", Kind.MACHINE, "a", {})
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        connection.execute("INSERT INTO entry VALUES ('fake', 'moon', 'b', '{}', 1.0)")
        connection.execute("INSERT INTO entry VALUES ('fake', 'disk', 'c', 'no labels', 1.0)")
        connection.execute("INSERT INTO entry VALUES ('fake', 'disk', 'd', '[1]', 1.0)")
        connection.execute("ALTER TABLE entry ADD COLUMN more TEXT NOT NULL DEFAULT 'x'")
    assert names_in(ledger) == ["a"]
    ledger.ask("fake", Kind.IMAGE, "e", {})
    assert names_in(ledger) == ["a", "e"]


def test_position_of_a_bake_is_kept_as_its_driver_wrote_it_until_the_bake_is_forgotten(ledger: Ledger) -> None:
    """A position is opaque: digits stay text, and a half line keeps what a console may print."""
    ledger.note_bake("fake", "bake-1", {"labels": {}})
    assert [(note.console_at, note.console_rest, note.log_at, note.reached) for note in ledger.bakes("fake")] == [("", "", "", 0)]
    for at in ("0041", "token/é=="):
        ledger.note_position("fake", "bake-1", console_at=Position(at), console_rest="half\x00 日", log_at=Position("7"), reached=2)
        (note,) = ledger.bakes("fake")
        assert (note.console_at, note.console_rest, note.log_at, note.reached) == (at, "half\x00 日", "7", 2)
    ledger.note_bake("fake", "bake-1", {"labels": {}})
    assert [note.console_at for note in ledger.bakes("fake")] == [START]
    ledger.forget_bake("fake", "bake-1")
    assert ledger.bakes("fake") == []


OLDER_BAKE = """
CREATE TABLE bake (
    cloud TEXT NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL, asked_at REAL NOT NULL,
    console_at INTEGER NOT NULL DEFAULT 0, log_at INTEGER NOT NULL DEFAULT 0, reached INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (cloud, id));
INSERT INTO bake VALUES ('fake', 'bake-0', '{"labels": {}}', 1.0, 512, 0, 1);
"""


def test_ledger_whose_bakes_have_positions_in_numbers_takes_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite3"
    connection = sqlite3.connect(path)
    connection.executescript(OLDER_BAKE)
    connection.close()
    ledger = Ledger(path)
    ledger.note_bake("fake", "bake-1", {"labels": {}})
    ledger.note_position("fake", "bake-1", console_at=Position("9"), console_rest="", log_at=START, reached=1)
    assert [(note.id, note.console_at) for note in ledger.bakes("fake")] == [("bake-0", START), ("bake-1", "9")]
