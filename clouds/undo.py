"""Undo, registered before do: every undo runs, even after errors, and failures of undos are reported."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType

from clouds.errors import BakehouseError, LeftoverError, UnreachableError, UnseenError
from clouds.locks import report


class Undo:
    """A stack of undos for a `with` block, run in reverse order when the block ends, with or without an error.

    The error that ended the block is raised; failures of undos are added to it as notes (printed for the user), or
    raised as LeftoverError if there was no error. While undos run, Ctrl-C, SIGTERM and SIGHUP are held back; afterwards they take
    effect, unless an interrupt has ended the block: then what is cleaned up is reported (`clouds.locks.reporting`).
    """

    def __init__(self) -> None:
        self._undos: list[tuple[str, str, Callable[[], object]]] = []

    def add(self, what: str, undo: Callable[[], object], *, by_hand: str) -> None:
        """Register an undo before the action; `what` would be left if it failed, `by_hand` is the command that removes that."""
        self._undos.append((what, by_hand, undo))

    def release(self) -> None:
        """Discard all undos: the result is kept."""
        self._undos.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _signals_wait() as held:
            if isinstance(error, KeyboardInterrupt) and self._undos:
                with suppress(Exception):  # nothing may prevent the undos
                    report(f"interrupted; cleaning up: {self._whats()} (another Ctrl-C has no effect)")
            left = [f"{what} ({failure}); to remove it: {by_hand}" for what, by_hand, failure in self._run()]
        if error is None or isinstance(error, Exception):
            _deliver(held[:1], left)
        if left and error is None:
            raise LeftoverError("could not clean up:\n" + "\n".join(left), left=left, next_step="Run: ./inv gc")
        if error is not None:
            _note(error, left)

    def _whats(self) -> str:
        return ", ".join(what for what, _, _ in reversed(self._undos))

    def _run(self) -> Iterator[tuple[str, str, str]]:
        while self._undos:
            what, by_hand, undo = self._undos.pop()
            try:
                undo()
            except (UnreachableError, UnseenError) as failure:  # a resource of that name may be someone else's: gc checks
                yield what, "./inv gc", failure.message
            except BakehouseError as failure:
                yield what, by_hand, failure.message
            except Exception as failure:  # a failing undo must not prevent the others from running
                yield what, by_hand, f"{type(failure).__name__}: {failure}"


@contextmanager
def _signals_wait() -> Iterator[list[int]]:
    """Hold back the signals that end a command until the block ends, and list them (possible only in the main thread)."""
    held: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield held
        return

    def hold(number: int, frame: FrameType | None) -> None:
        held.append(number)

    before = {number: signal.signal(number, hold) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield held
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _deliver(signals: Sequence[int], left: Sequence[str]) -> None:
    """Let signals that were held back take effect, and add the leftovers as notes to what they raise."""
    try:
        for number in signals:
            signal.raise_signal(number)
    except BaseException as interrupt:
        _note(interrupt, left)
        raise


def _note(error: BaseException, left: Sequence[str]) -> None:
    for line in left:
        error.add_note(f"left behind: {line}")
