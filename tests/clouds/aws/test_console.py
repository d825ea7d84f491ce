"""The console of EC2: a window without positions, read as one text whose gaps are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clouds.aws.console import Console
from clouds.driver import START, ConsoleText, Position
from tests.clouds.aws.stage import Stage

WINDOW = 65536
BOOT = "1790000000.000"


def lines(first: int, last: int) -> str:
    return "".join(f"[{number:12.6f}] line\r\n" for number in range(first, last))


def text(console: Console, since: Position = START) -> str:
    return console.since(since).text


def test_what_is_new_follows_what_was_read() -> None:
    console = Console()
    console.take(BOOT, lines(0, 10))
    first = console.since(START)
    console.take(BOOT, lines(0, 20))
    assert console.since(first.position) == ConsoleText(lines(10, 20), console.since(START).position)
    assert text(console) == lines(0, 20)


def test_a_window_that_moved_on_is_joined_where_the_two_overlap() -> None:
    console, whole = Console(), lines(0, 5000)
    console.take(BOOT, whole[:WINDOW])
    at = console.since(START).position
    console.take(BOOT, whole[30000 : 30000 + WINDOW])
    assert console.since(at) == ConsoleText(whole[WINDOW : 30000 + WINDOW], console.since(START).position)
    assert not console.since(START).lost


def test_a_gap_is_told_and_nothing_is_joined_over_it() -> None:
    console, whole = Console(), lines(0, 9000)
    console.take(BOOT, whole[:WINDOW])
    at = console.since(START).position
    console.take(BOOT, whole[-WINDOW:])
    piece = console.since(at)
    assert (piece.text, piece.lost) == (whole[-WINDOW:], True)
    assert console.since(piece.position) == ConsoleText("", piece.position)


def test_an_older_window_is_no_news() -> None:
    console = Console()
    console.take(BOOT, lines(0, 20))
    at = console.since(START).position
    console.take(BOOT, lines(0, 10))
    console.take(BOOT, "")
    assert console.since(at) == ConsoleText("", at)


def test_another_command_goes_on_where_one_has_ended() -> None:
    one, other, whole = Console(), Console(), lines(0, 4000)
    one.take(BOOT, whole[:WINDOW])
    at = one.since(START).position
    other.take(BOOT, whole[1000 : 1000 + WINDOW])
    assert other.since(at) == ConsoleText(whole[WINDOW : 1000 + WINDOW], other.since(START).position)


@pytest.mark.parametrize("position", ["", "x/!", "1790000000.000/bm93aGVyZQ==", "nonsense"])
def test_a_position_that_is_not_there_any_more_is_a_gap(position: str) -> None:
    console = Console()
    console.take(BOOT, lines(0, 10))
    piece = console.since(Position(position))
    assert (piece.text, piece.lost) == (lines(0, 10), bool(position))


def test_the_next_boot_is_told_apart_even_if_it_prints_the_same() -> None:
    console = Console()
    console.take(BOOT, lines(0, 10))
    at = console.since(START).position
    console.take("1790000999.000", lines(0, 10))
    piece = console.since(at)
    assert (piece.text, piece.lost) == (lines(0, 10), True)
    assert text(console) == lines(0, 10) * 2


def test_a_character_that_the_window_cuts_is_no_gap() -> None:
    console, whole = Console(), "ä" * 200 + lines(0, 100)
    console.take(BOOT, whole[:900] + "\ufffd")
    console.take(BOOT, "\ufffd" + whole[100:])
    assert console.since(START) == ConsoleText(whole, console.since(START).position)


@given(st.lists(st.integers(64, 4000), max_size=8), st.integers(1500, 3000))
def test_what_is_read_piece_by_piece_is_what_was_printed(ends: list[int], size: int) -> None:
    console, whole, read, at = Console(), lines(0, 200), "", START
    for end in sorted(ends):
        console.take(BOOT, whole[max(0, end - size) : end])
        piece = console.since(at)
        read, at = ("" if piece.lost else read) + piece.text, piece.position
        assert not read or whole[:end].endswith(read)


@pytest.mark.server
def test_a_console_that_says_nothing_for_minutes_is_an_empty_one(stage: Stage) -> None:
    stage.server.switches.console_delay_s = 180.0
    cloud = stage.connect()
    stage.boot(cloud)
    assert cloud.console("mine") == ConsoleText("", START)


@pytest.mark.server
def test_the_console_of_a_machine_that_has_ended_is_still_read(stage: Stage) -> None:
    from clouds.driver import End

    cloud = stage.connect()
    stage.boot(cloud, at_deadline=End.DELETE)
    stage.vms.write(stage.instance()["InstanceId"], b"the last words\n")
    stage.server.power_off("mine")
    stage.server.advance(60)
    assert cloud.find("machine", "mine") is None  # type: ignore[arg-type]
    assert cloud.console("mine").text.endswith("the last words\n")
    assert stage.connect().console("mine").text.endswith("the last words\n")
