import io
import json

import pytest

from bakery.errors import StepFailedError
from clouds.errors import NotConfirmedError, UsageError
from launcher.command import runner
from launcher.command.flags import Values, Verb
from launcher.command.terminal import Terminal, table


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


def asked(answer: str, stdin: type[io.StringIO] = Tty) -> Terminal:
    return Terminal(stdin(answer), io.StringIO(), io.StringIO())


@pytest.mark.parametrize("answer", ["y\n", "Yes\n", " YES \n"])
def test_yes_continues(answer: str) -> None:
    terminal = asked(answer)
    terminal.confirm("Delete it?", yes=False)
    assert terminal.stderr.getvalue() == "Delete it? [y/N] "  # type: ignore[attr-defined]


@pytest.mark.parametrize("answer", ["", "\n", "n\n", "yess\n"])
def test_anything_else_stops(answer: str) -> None:
    with pytest.raises(NotConfirmedError, match="nothing was deleted") as stopped:
        asked(answer).confirm("Delete it?", yes=False)
    assert stopped.value.exit_code == 1


def test_question_without_a_terminal_is_a_usage_error() -> None:
    with pytest.raises(UsageError) as refused:
        asked("y\n", io.StringIO).confirm("Delete it?", yes=False)
    assert "--yes" in refused.value.next_step


def test_yes_is_not_asked_again() -> None:
    terminal = asked("", io.StringIO)
    terminal.confirm("Delete it?", yes=True)
    assert terminal.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_a_table_is_aligned_and_leaves_empty_columns_out() -> None:
    rows = [{"name": "one", "url": "", "state": "running"}, {"name": "three", "url": "", "state": "off"}]
    assert table(rows) == ["NAME   STATE", "one    running", "three  off"]


def test_a_table_without_rows_is_empty() -> None:
    assert table([]) == []


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("Start it: ./inv start lab", "Start it: ./inv start lab --cloud faraway"),
        ("./inv ssh lab, ./inv log lab", "./inv ssh lab --cloud faraway, ./inv log lab --cloud faraway"),
        ("Found on gcp: ./inv launch --recipe a --cloud gcp", "Found on gcp: ./inv launch --recipe a --cloud gcp"),
        ("See: ./inv recipes", "See: ./inv recipes"),
    ],
)
def test_command_with_a_cloud_prints_commands_with_it(line: str, told: str) -> None:
    stderr = io.StringIO()
    Terminal(io.StringIO(), io.StringIO(), stderr, cloud="faraway").tell(line)
    assert stderr.getvalue() == f"{told}\n"


EVIL = "\x1b]0;pwned\x07\x1b[2J\x1b[31mred"


def test_no_output_has_control_sequences() -> None:
    terminal = Terminal(Tty("y\n"), io.StringIO(), io.StringIO())
    terminal.out(EVIL)
    terminal.tell(EVIL)
    terminal.confirm(EVIL, yes=False)
    assert terminal.stdout.getvalue() == "red\n"  # type: ignore[attr-defined]
    assert terminal.stderr.getvalue() == "red\nred [y/N] "  # type: ignore[attr-defined]


def test_json_holds_the_text_whole_and_steers_nothing() -> None:
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    terminal.out_json({"log": EVIL})
    assert "\x1b" not in (written := terminal.stdout.getvalue())  # type: ignore[attr-defined]
    assert json.loads(written) == {"log": EVIL}


def test_a_cell_of_a_table_stays_on_its_line() -> None:
    assert table([{"name": f"a\n{EVIL}\r\nb", "state": "on"}]) == ["NAME     STATE", "a red b  on"]


def test_an_error_that_quotes_a_console_steers_nothing() -> None:
    def fail(_values: Values, _terminal: Terminal) -> int:
        raise StepFailedError(f"step {EVIL}", step="packages", log=[EVIL], next_step=EVIL)

    stderr = io.StringIO()
    assert runner.run(Verb("try", "Try.", fail), {}, (), Terminal(io.StringIO(), io.StringIO(), stderr)) == 1
    assert stderr.getvalue() == "error: step red\n  | red\nnext: red\n"
