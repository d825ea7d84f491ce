"""Undo, registered before do: whatever happens, each undo runs, and what could not be undone is told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType

from clouds.errors import BakehouseError, LeftoverError, UnreachableError, UnseenError


class Undo:
    """A stack of undos for a `with` block, run last first when the block ends, well or not.

    The error that ended the block stays on top; failures of undoing are added to it as notes (shown to the
    user), or raised as LeftoverError when there was no other. While undoing, Ctrl-C, SIGTERM and SIGHUP wait; afterwards
    they take effect, unless an interrupt was what ended the block.
    """

    def __init__(self) -> None:
        self._undos: list[tuple[str, str, Callable[[], object]]] = []

    def add(self, what: str, undo: Callable[[], object], *, by_hand: str) -> None:
        """Register an undo before its do; `what` is what would be left, `by_hand` the command that removes it."""
        self._undos.append((what, by_hand, undo))

    def release(self) -> None:
        """Forget all undos: the work is to stay."""
        self._undos.clear()

    def __enter__(self) -> Undo:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _signals_wait() as held:
            left = [f"{what} ({failure}); to remove it: {by_hand}" for what, by_hand, failure in self._run()]
        if error is None or isinstance(error, Exception):
            _deliver(held[:1], left)
        if left and error is None:
            raise LeftoverError("could not clean up:\n" + "\n".join(left), left=left, next_step="Run: ./inv gc")
        if error is not None:
            _note(error, left)

    def _run(self) -> Iterator[tuple[str, str, str]]:
        while self._undos:
            what, by_hand, undo = self._undos.pop()
            try:
                undo()
            except (UnreachableError, UnseenError) as failure:  # a thing of that name may be another's, which gc would not remove
                yield what, "./inv gc", failure.message
            except BakehouseError as failure:
                yield what, by_hand, failure.message
            except Exception as failure:  # an undo must never keep the others from running
                yield what, by_hand, f"{type(failure).__name__}: {failure}"


@contextmanager
def _signals_wait() -> Iterator[list[int]]:
    """Hold back the signals that end a command until the block is over; list them (only the main thread may do so)."""
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
    """Let signals that were held back take effect; what they raise tells what is left."""
    try:
        for number in signals:
            signal.raise_signal(number)
    except BaseException as interrupt:
        _note(interrupt, left)
        raise


def _note(error: BaseException, left: Sequence[str]) -> None:
    for line in left:
        error.add_note(f"left behind: {line}")
