"""The one place that waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from clouds.errors import ThrottledError, TimedOutError

T = TypeVar("T")
_GROWTH = 1.5
_THROTTLED_S = 5.0
_RETRY_AFTER_MAX_S = 60.0
"""How long a cloud may keep us waiting by its header Retry-After, in seconds."""


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

    With a `poll_max_s` the calls grow apart up to that; while the cloud throttles us they are 5 s apart at least, and as far apart
    as it asks for: a minute at most, and never past the deadline.
    Raises TimedOutError after `timeout_s`, naming `what` was awaited and what was seen last; it deletes
    nothing, since what is slow may still finish. Whatever else `probe` raises passes through at once.
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
            raise TimedOutError(f"{what}: not within {timeout_s:.0f} s" + (f"; last seen: {seen}" if seen else ""), last_seen=seen)
        sleep(wait_s)
        poll_s = max(poll_s, min(poll_s * _GROWTH, poll_max_s))
