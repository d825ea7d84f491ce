"""A command whose output cannot be written: it continues to its end, and its exit code shows that output was lost."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest

from launcher.command import runner
from launcher.command.flags import Values, Verb
from launcher.command.output import Output
from launcher.command.terminal import Terminal
from tests import forked

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[3]
FULL = Path("/dev/full")


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """Give a pipe whose reader has exited."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w", encoding="utf-8") as stream:
        yield stream


@pytest.fixture
def full() -> Iterator[TextIO]:
    """Give a file on a full disk."""
    with FULL.open("w", encoding="utf-8") as stream:
        yield stream


def run(work: Callable[[Terminal], object], stdout: TextIO, stderr: TextIO) -> int:
    def verb(_values: Values, terminal: Terminal) -> int:
        work(terminal)
        return 0

    return runner.run(Verb("try", "Try.", verb), {}, (), Terminal(io.StringIO(), stdout, stderr))


def test_work_continues_without_a_reader_of_its_progress_and_exits_with_141(unread: TextIO) -> None:
    done: list[str] = []

    def work(terminal: Terminal) -> None:
        for step in ("boot", "test", "publish"):
            terminal.tell(step)
            done.append(step)
        terminal.out("baked")

    stdout = io.StringIO()
    assert run(work, stdout, unread) == 141
    assert done == ["boot", "test", "publish"]
    assert stdout.getvalue() == "baked\n"


def test_result_without_a_reader_exits_with_141_without_a_message(unread: TextIO) -> None:
    stderr = io.StringIO()
    assert run(lambda terminal: terminal.out("baked"), unread, stderr) == 141
    assert stderr.getvalue() == ""


def test_result_on_a_full_disk_exits_with_1_and_an_error(full: TextIO) -> None:
    stderr = io.StringIO()
    assert run(lambda terminal: terminal.out_json({}), full, stderr) == 1
    assert stderr.getvalue().splitlines()[0] == f"error: could not write the output: {os.strerror(errno.ENOSPC)}"


def test_news_that_find_no_room_exit_with_1(full: TextIO) -> None:
    assert run(lambda terminal: terminal.tell("news"), io.StringIO(), full) == 1


def test_failure_keeps_its_own_exit_code(unread: TextIO) -> None:
    def fail(terminal: Terminal) -> None:
        terminal.out("begun")
        raise KeyboardInterrupt

    assert run(fail, unread, unread) == 130


def test_pipe_that_breaks_elsewhere_is_no_success() -> None:
    def work(_terminal: Terminal) -> None:
        raise BrokenPipeError(errno.EPIPE, "a program that was written to has ended")

    assert run(work, io.StringIO(), io.StringIO()) not in (0, 141)


def test_question_that_cannot_be_written_is_not_taken_as_answered(unread: TextIO) -> None:
    class Tty(io.StringIO):
        def isatty(self) -> bool:
            return True

    verb = Verb("try", "Try.", lambda _values, terminal: terminal.confirm("Delete it?", yes=False) or 0)
    assert runner.run(verb, {}, (), Terminal(Tty("y\n"), io.StringIO(), unread)) == 2


def test_streams_that_are_closed_are_lost_ones() -> None:
    assert run(lambda terminal: terminal.out("baked"), None, None) == 1  # type: ignore[arg-type]
    assert run(lambda _terminal: None, None, None) == 0  # type: ignore[arg-type]


def test_character_that_the_stream_cannot_write_is_escaped(tmp_path: Path) -> None:
    with (tmp_path / "ascii").open("w", encoding="ascii") as stream:
        assert run(lambda terminal: terminal.out("größer \udcff"), stream, io.StringIO()) == 0
    assert (tmp_path / "ascii").read_text() == "gr\\xf6\\xdfer \\udcff\n"


def test_buffered_output_is_not_retried_at_exit(full: TextIO) -> None:
    output = Output(full)
    output.write("x" * 100_000)
    output.flush()
    full.flush()
    assert output.lost


@pytest.mark.parametrize("sink", ["pipe", "full"])
@pytest.mark.parametrize(
    "words",
    [
        ("launcher", "machines"),
        ("launcher", "images", "--json"),
        ("launcher", "launch", "--help"),
        ("invoke", "recipes"),
        ("invoke", "--list"),
        ("invoke", "bake", "--help"),
    ],
)
def test_real_command_whose_output_is_lost(words: tuple[str, ...], sink: str) -> None:
    reader, pipe = os.pipe()
    os.close(reader)
    stdout = pipe if sink == "pipe" else os.open(FULL, os.O_WRONLY)
    try:
        done = forked.run(*words, cwd=ROOT, stdout=stdout)
    finally:
        with suppress(OSError):
            os.close(stdout)
    if words == ("launcher", "machines"):  # without machines there is no result, only news
        assert done.returncode == 0
        return
    assert done.returncode == (141 if sink == "pipe" else 1)
    assert "Exception" not in done.stderr
    assert "Traceback" not in done.stderr
