"""The one place that waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from clouds.errors import TimedOutError

T = TypeVar("T")


def until(
    probe: Callable[[], T | None],
    *,
    what: str,
    timeout_s: float,
    poll_s: float = 0.2,
    last_seen: Callable[[], str] = lambda: "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call `probe` every `poll_s` seconds until it returns something true, and return that.

    Raises TimedOutError after `timeout_s`, naming `what` was awaited and what was seen last; it deletes
    nothing, since what is slow may still finish. Whatever `probe` raises passes through at once.
    """
    deadline = clock() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        if clock() >= deadline:
            seen = last_seen()
            raise TimedOutError(f"{what}: not within {timeout_s:.0f} s" + (f"; last seen: {seen}" if seen else ""), last_seen=seen)
        sleep(poll_s)
