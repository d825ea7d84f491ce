"""Time in a test server: a clock that can be moved, and actions that are due later."""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from datetime import UTC, datetime

from tests.servers.vm import Done, VmError

POLL_S = 0.02

Action = Callable[[], None]
Clock = Callable[[], float]


class Engine:
    """Runs actions when they are due; whoever holds the server's lock calls `settle`."""

    def __init__(self, clock: Clock = time.time) -> None:
        self._clock, self._offset_s = clock, 0.0
        self._frozen_at: float | None = None
        self._order = itertools.count()
        self._due: list[tuple[float, int, Action]] = []
        self._awaited: list[tuple[Done, Action, Callable[[Exception], None]]] = []

    def now(self) -> float:
        """Return seconds since the epoch; while an action runs, the time at which it was due."""
        return self._clock() + self._offset_s if self._frozen_at is None else self._frozen_at

    def after(self, delay_s: float, action: Action) -> None:
        heapq.heappush(self._due, (self.now() + delay_s, next(self._order), action))

    def once(self, done: Done, action: Action, failed: Callable[[Exception], None]) -> None:
        """Run the action as soon as `done` says so, or `failed` with what it raises."""
        self._awaited.append((done, action, failed))

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._offset_s += seconds
        self.settle()

    def settle(self) -> None:
        """Run all that is due, in its order."""
        assert self._frozen_at is None
        until = self.now()
        while self._settle_awaited() or (self._due and self._due[0][0] <= until):
            if self._due and self._due[0][0] <= until:
                self._frozen_at, _, action = heapq.heappop(self._due)
                try:
                    action()
                finally:
                    self._frozen_at = None

    def pause_s(self) -> float:
        """Return after how long it is worth while to settle again."""
        return max(0.001, min(POLL_S, self._due[0][0] - self.now())) if self._due else POLL_S

    def _settle_awaited(self) -> bool:
        for entry in list(self._awaited):
            done, action, failed = entry
            try:
                if not done():
                    continue
            except VmError as error:
                self._awaited.remove(entry)
                failed(error)
            else:
                self._awaited.remove(entry)
                action()
            return True
        return False


def timestamp(seconds: float) -> str:
    """Return RFC 3339 text with milliseconds, at the offset that the service uses."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
