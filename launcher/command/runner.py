"""Run one verb for a front end: parse its values, call it, print its error, and choose the exit code.

0 success, 1 expected failure, 2 usage or recipe error, 3 bug in Bakehouse (with a log file), 128 + n stopped by signal n
(130: Ctrl-C). 141: the reader of the output has exited, which does not stop the command.
"""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from clouds.errors import BakehouseError, GuestError, NotConfirmedError, UsageError
from clouds.home import home, write_private
from clouds.locks import reporting
from launcher.command import multi_cloud
from launcher.command.flags import Verb, read
from launcher.command.outcome import STOPPING
from launcher.command.output import BROKEN_PIPE, Output, guarded
from launcher.command.terminal import Terminal

BUG = 3
_LARGER = "Free some space, or set BAKEHOUSE_HOME to a folder on a larger disk; then run the command again."
_WRITABLE = "Change the owner or mode of that file or folder, or set BAKEHOUSE_HOME to a folder that you can write to."
_FEWER = "Close some programs, or raise the limit on open files (ulimit -n); then run the command again."
_MOVED = "Move it to another place: Bakehouse creates what it needs there; then run the command again."
_SOUND = "Check the disk: the kernel's log (dmesg) shows what it could not read or write."
_REFUSED = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), _LARGER),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), _WRITABLE),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), _FEWER),
    errno.EIO: _SOUND,
}
"""The next step for each errno that is a problem of this computer, not of Bakehouse."""
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.ENOTEMPTY)
"""Below BAKEHOUSE_HOME: something else is where Bakehouse has a file or a folder."""
_OWN = ("bakery", "clouds", "launcher", "tasks")


class Stopped(KeyboardInterrupt):
    """A signal to end this process; like Ctrl-C, it unwinds the current work."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def run(
    verb: Verb, typed: Mapping[str, str | bool | None], command: Sequence[str], terminal: Terminal, *, ends_process: bool = False
) -> int:
    """Run a verb and return the exit code. With `--json` a failure is the last line on stdout, as JSON.

    `ends_process`: the process exits with the code soon. If it is not 0, signals are ignored until then, which keeps the code.
    """
    result, stdout = guarded(terminal.stdout)
    progress, stderr = guarded(terminal.stderr)
    terminal = replace(terminal, stdout=stdout, stderr=stderr, cloud=_one(typed, "cloud"), region=_one(typed, "region"))
    with _Signals() as signals:
        code = _run(verb, typed, command, terminal, signals) or _unwritten(result, progress)
        if ends_process and code:
            signals.ignore()
    if ends_process:
        gc.freeze()  # the interpreter collects garbage as it exits, which takes 20 ms for the modules alone
    return code


def _one(typed: Mapping[str, str | bool | None], flag: str) -> str:
    """Return the value of a flag that names one cloud or region; "" if it is absent or names all."""
    value = typed.get(flag)
    return value if isinstance(value, str) and value != multi_cloud.ALL else ""


def _run(verb: Verb, typed: Mapping[str, str | bool | None], command: Sequence[str], terminal: Terminal, signals: _Signals) -> int:
    try:
        with reporting(terminal.tell):
            code = verb.run(read(verb, typed, command), terminal)
            signals.stop_nothing()
            return code
    except BaseException as error:  # the top level: every error ends here
        signals.stop_nothing()
        code, shown = _shown(error)
        if typed.get("json"):
            terminal.out_json(as_json(shown, terminal.hint))
        for line in lines(shown, terminal.hint):
            terminal.quote(line)
        return code


@contextmanager
def prints_help() -> Iterator[None]:
    """Let a front end print help or a list to standard output; exit with an error code if it could not be written."""
    result, stdout = guarded(sys.stdout)
    try:
        with redirect_stdout(stdout):
            yield
    finally:
        stdout.flush()
        if code := _unwritten(result, Output(sys.stderr)):
            raise SystemExit(code)


def _unwritten(result: Output, progress: Output) -> int:
    """Return the exit code of a successful command: 0, or an error code if some of its output could not be written."""
    lost = result.lost or progress.lost
    if lost is None:
        return 0
    if lost.errno == errno.EPIPE:
        return BROKEN_PIPE
    progress.write(f"error: could not write the output: {lost.strerror}\n")
    progress.write("next: Redirect the output to another place; the command itself has succeeded.\n")
    progress.flush()
    return 1


def lines(error: BakehouseError, hint: Callable[[str], str] = str) -> list[str]:
    """Return an error as lines for the user: cause, details, leftovers, next step.

    `hint` adds `--cloud` and `--region` to the commands of the last two; the log of a guest is quoted unchanged.
    """
    cause, *details = error.message.splitlines() or [type(error).__name__]
    details += [f"| {line}" for line in (error.log if isinstance(error, GuestError) else ())]
    details += [hint(line) for note in getattr(error, "__notes__", ()) for line in note.splitlines()]
    next_steps = "\n      ".join(hint(error.next_step).splitlines())
    first = cause if isinstance(error, NotConfirmedError) else f"error: {cause}"
    return [first, *(f"  {line}" for line in details), *([f"next: {next_steps}"] if next_steps else [])]


def as_json(error: BakehouseError, hint: Callable[[str], str] = str) -> Mapping[str, object]:
    """Return an error for JSON; `hint` adds `--cloud` and `--region` to its commands."""
    notes = getattr(error, "__notes__", ())
    step, log = (error.step, list(error.log)) if isinstance(error, GuestError) else ("", [])
    return {"error": "\n".join([error.message, *map(hint, notes)]), "step": step, "log": log, "next": hint(error.next_step)}


def _shown(error: BaseException) -> tuple[int, BakehouseError]:
    """Return the exit code of an error, and the error to print."""
    if isinstance(error, BakehouseError):
        return error.exit_code, error
    if isinstance(error, KeyboardInterrupt):
        stopped = error if isinstance(error, Stopped) else Stopped()
        return stopped.exit_code, _with_notes(BakehouseError(f"interrupted ({stopped})"), error)
    if refused := _refused_here(error) or _outdated(error):
        return refused.exit_code, _with_notes(refused, error)
    bug = BakehouseError(f"unexpected {type(error).__name__}: {error}", next_step=_report(error))
    return BUG, _with_notes(bug, error)


def _refused_here(error: BaseException) -> BakehouseError | None:
    """Return the error to print for a problem of this computer, which is no bug: a full disk, a missing permission."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    named = error.filename2 or error.filename  # the second one is the target of a rename
    where = os.fsdecode(named) if isinstance(named, bytes) else str(named or "")
    next_step = _REFUSED.get(error.errno, "")
    if error.errno in _IN_THE_WAY and where and _is_in_store(where):
        next_step = _MOVED
    if not next_step:
        return None
    # the error of a write to an open file does not name it
    return BakehouseError(f"{where or 'a file of Bakehouse'}: {os.strerror(error.errno)}", next_step=next_step)


def _is_in_store(path: str) -> bool:
    try:
        return Path(path).is_relative_to(home())
    except UsageError:
        return False


def _outdated(error: BaseException) -> BakehouseError | None:
    """Return the error to print if a package is missing that requirements.lock lists: only `./inv` updates .venv."""
    if not isinstance(error, ModuleNotFoundError) or (error.name or "").partition(".")[0] in _OWN:
        return None
    return BakehouseError(
        f"{Path(sys.prefix).name} lacks the Python package {error.name!r}",
        next_step="Run: ./inv --list. It installs what this version of Bakehouse needs.",
    )


def _with_notes(shown: BakehouseError, error: BaseException) -> BakehouseError:
    for note in getattr(error, "__notes__", ()):
        shown.add_note(note)
    return shown


def _report(error: BaseException) -> str:
    """Write the traceback of a bug to a log file and return the next step."""
    trace = "".join(traceback.format_exception(error))
    try:
        path = home() / "logs" / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_private(path, trace)
    except (OSError, BakehouseError):
        return f"This is a bug in Bakehouse; please report it with this:\n{trace}"
    return f"This is a bug in Bakehouse; please report it with {path}"


class _Signals:
    """For a `with` block: Ctrl-C, SIGTERM and SIGHUP stop what runs in it; a signal that was ignored stays ignored.

    Another signal has no effect while the first one unwinds the block: it could interrupt an undo, or come before one begins.
    """

    def __init__(self) -> None:
        self._is_over = False
        self._is_deciding = False
        self._afterwards: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        wanted = [number for number in STOPPING if signal.getsignal(number) != signal.SIG_IGN]
        self._afterwards = {number: signal.signal(number, self._stop) for number in wanted}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._afterwards.items():
            signal.signal(number, handler)

    def stop_nothing(self) -> None:
        """Let signals have no effect in the rest of the block: its work is done."""
        self._is_over = True

    def ignore(self) -> None:
        """Let signals have no effect after the block either."""
        self._afterwards = dict.fromkeys(self._afterwards, signal.SIG_IGN)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        if self._is_deciding:  # a storm of signals would nest this until a RecursionError takes the place of the interrupt
            return
        self._is_deciding = True
        try:
            stopped = None if self._is_over or _is_unwinding(sys.exception()) else Stopped(number)
        finally:
            self._is_deciding = False
        if stopped:
            raise stopped


def _is_unwinding(handled: BaseException | None) -> bool:
    """Return whether the exception that is handled now is an interrupt, or was raised while one was handled.

    What runs while an interrupt unwinds is in an `except` or `finally` clause or an `__exit__`. Once something has handled the
    interrupt and continues, the next signal stops that.
    """
    seen = set[int]()
    while handled is not None and id(handled) not in seen:
        if isinstance(handled, KeyboardInterrupt):
            return True
        seen.add(id(handled))
        handled = handled.__context__
    return False
