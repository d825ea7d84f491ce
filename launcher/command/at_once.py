"""Run actions at the same time, in a bounded number of threads."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from clouds.errors import BakehouseError, TimedOutError

T = TypeVar("T")
THREADS = 16
"""How many actions run at the same time: enough for most regions of an account."""


def at_once(
    actions: Sequence[Callable[[], T]], *, threads: int = THREADS, deadline_s: float | None = None
) -> list[T | BakehouseError]:
    """Return the result of each action in order, or the error that it raised.

    Other exceptions, which are bugs, are raised. The threads do not keep the process alive, so that Ctrl-C need not wait for them.
    After `deadline_s`, which is for all together, a TimedOutError stands for each action that has not ended; no other is started.
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
    late = TimedOutError(f"no answer within {deadline_s} s")
    results: dict[int, T | BaseException] = dict.fromkeys(range(len(actions)), late)
    end = None if deadline_s is None else time.monotonic() + deadline_s
    try:
        for _ in actions:
            number, result = ended.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
            results[number] = result
    except queue.Empty:
        while not waiting.empty():
            with suppress(queue.Empty):
                waiting.get_nowait()
    return [_checked(result) for result in results.values()]


def _checked(result: T | BaseException) -> T | BakehouseError:
    if isinstance(result, BaseException) and not isinstance(result, BakehouseError):
        raise result
    return result
