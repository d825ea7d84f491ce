import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from bakery.errors import StepFailedError
from clouds.errors import BakehouseError, NotConfirmedError, NotFoundError, UsageError
from clouds.home import home
from clouds.undo import Undo
from launcher.command import runner
from launcher.command.flags import Flag, Values, Verb
from launcher.command.terminal import Terminal

ROOT = Path(__file__).parents[3]
JSON = Flag("json", "JSON", parse=None)


def run(action: Callable[[], object], *, as_json: bool = False) -> tuple[int, str, str]:
    """Run a verb that calls `action`; return the exit code, stdout and stderr."""

    def verb(_values: Values, _terminal: Terminal) -> int:
        action()
        return 0

    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    code = runner.run(Verb("try", "Try.", verb, flags=(JSON,)), {"json": as_json}, (), terminal)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()  # type: ignore[attr-defined]


def raising(error: BaseException) -> Callable[[], object]:
    def action() -> None:
        raise error

    return action


def test_successful_verb_prints_nothing_more() -> None:
    assert run(lambda: None) == (0, "", "")


def test_the_exit_code_of_a_verb_is_handed_on() -> None:
    verb = Verb("ssh", "Shell.", lambda _values, _terminal: 42)
    assert runner.run(verb, {}, (), Terminal(io.StringIO(), io.StringIO(), io.StringIO())) == 42


@pytest.mark.parametrize(("error", "code"), [(NotFoundError("gone"), 1), (UsageError("wrong"), 2), (KeyboardInterrupt(), 130)])
def test_each_kind_of_error_has_its_exit_code(error: BaseException, code: int) -> None:
    assert run(raising(error))[0] == code


def test_error_is_printed_as_cause_details_leftovers_and_next_step() -> None:
    error = StepFailedError(
        "step packages: line 3\nfailed", step="packages", log=["E: no such package"], next_step="Fix it.\nOr not."
    )
    error.add_note("left behind: machine x;\nto remove it: gc")
    told = run(raising(error))[2].splitlines()
    assert told == [
        "error: step packages: line 3",
        "  failed",
        "  | E: no such package",
        "  left behind: machine x;",
        "  to remove it: gc",
        "next: Fix it.",
        "      Or not.",
    ]


def test_an_answer_of_no_is_no_error() -> None:
    declined = raising(NotConfirmedError("nothing was deleted"))
    assert run(declined) == (1, "", "nothing was deleted\n")


def test_with_json_the_failure_is_the_last_line_of_stdout() -> None:
    error = StepFailedError("it broke", step="packages", log=["one", "two"], next_step="Fix it.")
    code, stdout, stderr = run(raising(error), as_json=True)
    assert code == 1
    assert json.loads(stdout.splitlines()[-1]) == {
        "error": "it broke",
        "step": "packages",
        "log": ["one", "two"],
        "next": "Fix it.",
    }
    assert "it broke" in stderr


def test_a_bug_exits_with_3_and_leaves_its_traceback_in_a_log_file() -> None:
    code, _, stderr = run(raising(ZeroDivisionError("oops")))
    (log,) = (home() / "logs").iterdir()
    assert code == 3
    assert str(log) in stderr
    assert "Traceback" not in stderr
    assert "ZeroDivisionError: oops" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("number", "instead"),
    [
        (errno.ENOSPC, "on a larger disk"),
        (errno.EDQUOT, "on a larger disk"),
        (errno.EFBIG, "on a larger disk"),
        (errno.EROFS, "that you can write"),
        (errno.EACCES, "that you can write"),
        (errno.EPERM, "that you can write"),
        (errno.EMFILE, "ulimit -n"),
        (errno.EIO, "dmesg"),
    ],
)
@pytest.mark.parametrize("file", [None, "/srv/console.log", b"/srv/console.log", Path("/srv/console.log")])
def test_problem_of_this_computer_is_no_bug(number: int, instead: str, file: str | bytes | Path | None) -> None:
    error = OSError(number, os.strerror(number), file) if file else OSError(number, os.strerror(number))
    error.add_note("left behind: machine x")
    code, _, stderr = run(raising(error))
    first, note, last = stderr.splitlines()
    assert code == 1
    assert first == f"error: {'/srv/console.log' if file else 'a file of Bakehouse'}: {os.strerror(number)}"
    assert note == "  left behind: machine x"
    assert last.startswith("next: ")
    assert instead in last
    assert not (home() / "logs").exists()


def test_package_that_an_outdated_environment_lacks_is_no_bug_and_a_module_of_ours_is() -> None:
    code, _, stderr = run(raising(ModuleNotFoundError("No module named 'boto3'", name="boto3.session")))
    assert code == 1
    assert "lacks the Python package 'boto3.session'" in stderr
    assert "next: Run: ./inv --list." in stderr
    assert run(raising(ModuleNotFoundError("No module named 'clouds.moon'", name="clouds.moon")))[0] == 3


def test_other_errors_of_the_system_are_bugs() -> None:
    assert run(raising(FileNotFoundError(errno.ENOENT, "No such file", "x")))[0] == 3


def test_bug_is_reported_even_if_no_log_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_HOME", "/proc/nowhere")
    code, _, stderr = run(raising(ZeroDivisionError("oops")))
    assert code == 3
    assert "ZeroDivisionError: oops" in stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds_and_decides_the_exit_code(number: signal.Signals, code: int) -> None:
    unwound = []

    def action() -> None:
        try:
            signal.raise_signal(number)
        finally:
            unwound.append(number)

    before = signal.signal(number, lambda _number, _frame: None)  # it may be ignored here: under nohup, SIGHUP is
    try:
        assert run(action)[0] == code
    finally:
        signal.signal(number, before)
    assert unwound == [number]


def test_signals_during_unwinding_prevent_no_undo() -> None:
    """Ctrl-C is pressed as fast as possible, so that the second one arrives at a different moment each time."""
    press = ["bash", "-c", "read -r && while kill -INT $1; do :; done", "press", str(os.getpid())]
    undone: list[int] = []
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        for number in range(30):
            with subprocess.Popen(press, stdin=subprocess.PIPE, text=True) as process:
                try:
                    assert run(partial(work, process, partial(undone.append, number)))[0] == 130
                finally:
                    process.kill()
    finally:
        signal.signal(signal.SIGINT, before)
    assert undone == list(range(30))


def test_an_interrupt_says_at_once_what_is_cleaned_up() -> None:
    seen: list[str] = []

    def action() -> None:
        with Undo() as undo:
            undo.add("folder x", lambda: None, by_hand="rm x")
            undo.add("machine 'lab'", lambda: seen.append(terminal.stderr.getvalue()), by_hand="rm lab")
            signal.raise_signal(signal.SIGINT)

    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    assert runner.run(Verb("work", "Work.", lambda _values, _terminal: (action(), 0)[1]), {}, (), terminal) == 130
    line = "interrupted; cleaning up: machine 'lab', folder x (another Ctrl-C has no effect)\n"
    assert seen == [line]
    assert terminal.stderr.getvalue() == line + "error: interrupted (SIGINT)\n"


def test_later_signal_is_not_ignored() -> None:
    """If something has swallowed the first one, the next one must still take effect."""

    def action() -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)

    assert run(action)[0] == 143


def work(process: subprocess.Popen[str], undo_it: Callable[[], object]) -> None:
    """Register an undo, and be interrupted."""
    with Undo() as undo:
        undo.add("it", undo_it, by_hand="rm it")
        assert process.stdin
        print(file=process.stdin, flush=True)
        time.sleep(10)


def test_signals_have_their_old_handlers_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_signal_that_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run(lambda: signal.raise_signal(signal.SIGHUP))[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_notes_of_an_interrupted_verb_are_printed() -> None:
    error = KeyboardInterrupt()
    error.add_note("left behind: machine x")
    assert "  left behind: machine x" in run(raising(error))[2].splitlines()


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    script = (
        "import sys; from launcher.command import runner\nfrom launcher.command.flags import Verb\n"
        "from launcher.command.terminal import Terminal\n"
        "def talk(values, terminal):\n    for number in range(100000): terminal.out(str(number))\n    return 0\n"
        "sys.exit(runner.run(Verb('talk', 'Talk.', talk), {}, (), Terminal(sys.stdin, sys.stdout, sys.stderr)))"
    )
    reading, writing = os.pipe()
    talker = subprocess.Popen([sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, cwd=ROOT, text=True)
    os.close(writing)
    os.read(reading, 10)
    os.close(reading)
    assert talker.communicate(timeout=30)[1] == ""


def test_error_without_a_message_is_printed_with_its_name() -> None:
    assert runner.lines(BakehouseError(""))[0] == "error: BakehouseError"


def test_hints_name_the_cloud_of_the_command_and_a_guests_log_is_unchanged() -> None:
    error = StepFailedError("it broke", step="packages", log=["./inv start lab"], next_step="Start it: ./inv delete-image r-1-2")
    error.add_note("left behind: machine x; to remove it: ./inv delete x --yes")
    told = runner.lines(error, Terminal(io.StringIO(), io.StringIO(), io.StringIO(), cloud="faraway").hint)
    assert told == [
        "error: it broke",
        "  | ./inv start lab",
        "  left behind: machine x; to remove it: ./inv delete x --yes --cloud faraway",
        "next: Start it: ./inv delete-image r-1-2 --cloud faraway",
    ]
