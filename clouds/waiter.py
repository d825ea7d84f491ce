"""The only polling loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from clouds.errors import ThrottledError, TimedOutError

T = TypeVar("T")
_GROWTH = 1.5
_THROTTLED_S = 5.0
_RETRY_AFTER_MAX_S = 60.0
"""The longest wait that a cloud's header Retry-After can cause, in seconds."""


def until(
    probe: Callable[[], T | None],
    *,
    what: str,
    timeout_s: float,
    poll_s: float = 0.2,
    poll_max_s: float = 0.0,
    last_seen: Callable[[], str] = lambda: "",
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Call `probe` every `poll_s` seconds until it returns something true, and return that.

    With a `poll_max_s` the interval grows up to that. While the cloud throttles requests, the interval is at least 5 s, or as long
    as the cloud requests, up to a minute and never past the deadline.
    Raises TimedOutError after `timeout_s` with `what` and the last state seen; it deletes nothing, since a slow operation may still
    finish. Other errors of `probe` are raised at once.
    """
    deadline = clock() + timeout_s
    while True:
        wait_s, throttled = poll_s, None
        try:
            found = probe()
        except ThrottledError as error:
            asked_s = min(error.retry_after_s, _RETRY_AFTER_MAX_S)
            found, wait_s, throttled = None, max(poll_s, _THROTTLED_S, min(asked_s, deadline - clock())), error
        if found:
            return found
        if clock() >= deadline:
            seen = throttled.message if throttled else last_seen()
            last = f"; last seen: {seen}" if seen else ""
            raise TimedOutError(f"{what}: timed out after {timeout_s:.0f} s{last}", last_seen=seen)
        sleep(wait_s)
        poll_s = max(poll_s, min(poll_s * _GROWTH, poll_max_s))
