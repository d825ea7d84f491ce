"""Run actions at the same time, in a bounded number of threads."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from clouds.errors import BakehouseError

T = TypeVar("T")
THREADS = 16
"""How many actions run at the same time: enough for most regions of an account."""


def at_once(actions: Sequence[Callable[[], T]], *, threads: int = THREADS) -> list[T | BakehouseError]:
    """Return the result of each action in order, or the error that it raised.

    Other exceptions, which are bugs, are raised. The threads do not keep the process alive, so that Ctrl-C need not wait for them.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    ended: queue.SimpleQueue[tuple[int, T | BaseException]] = queue.SimpleQueue()
    for number in range(len(actions)):
        waiting.put(number)

    def work() -> None:
        while True:
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                ended.put((number, actions[number]()))
            except BaseException as error:  # whatever it is, the caller waits for it
                ended.put((number, error))

    for _ in range(min(threads, len(actions))):
        threading.Thread(target=work, daemon=True).start()
    results = dict(ended.get() for _ in actions)
    return [_checked(results[number]) for number in range(len(actions))]


def _checked(result: T | BaseException) -> T | BakehouseError:
    if isinstance(result, BaseException) and not isinstance(result, BakehouseError):
        raise result
    return result
