"""Locks between commands: one at a time changes a folder, builds a base or installs packages; the others wait and say so.

A lock is a file locked by the kernel for a process (flock), so it is released if the process dies. No lock is held during a
request to a cloud.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.errors import TimedOutError
from clouds.waiter import until

if TYPE_CHECKING:
    from clouds.driver import Tell

SHORT_S = 60.0
"""How long to wait for a lock that is held only for file operations, in seconds."""
SAY_AFTER_S = 1.0
"""Shorter waits are not reported, in seconds."""
_POLL_S, _POLL_MAX_S = 0.01, 0.5


def _say_nothing(_line: str) -> None:
    """Ignore a line: the default listener."""


_listener: ContextVar[Tell] = ContextVar("listener", default=_say_nothing)


@contextmanager
def reporting(tell: Tell) -> Iterator[None]:
    """Report to `tell` waits for a lock in this block, and what is cleaned up after an interrupt."""
    token = _listener.set(tell)
    try:
        yield
    finally:
        _listener.reset(token)


def report(line: str) -> None:
    """Report a line to the listener of `reporting`."""
    _listener.get()(line)


@contextmanager
def locked(
    path: Path, *, what: str, timeout_s: float = SHORT_S, say_after_s: float = SAY_AFTER_S, tell: Tell | None = None
) -> Iterator[None]:
    """Hold the lock file `path` (created if missing; its folder must exist), exclusively among all processes and threads.

    `what` completes "waiting for", such as `another command to build the base`; a wait is reported to `tell`, by default to the
    listener of `reporting`. Raises TimedOutError after `timeout_s`, FileNotFoundError without the folder.
    """
    from filelock import FileLock, Timeout  # 100 ms, which `./inv --list` need not spend

    if not path.parent.is_dir():  # filelock would create it
        raise FileNotFoundError(path.parent)
    lock = FileLock(path, mode=0o600, thread_local=False)

    def is_held() -> bool:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    if not is_held():
        _wait(is_held, what, timeout_s=timeout_s, say_after_s=say_after_s, tell=tell or _listener.get())
    try:
        yield
    finally:
        lock.release()


def _wait(is_held: Callable[[], bool], what: str, *, timeout_s: float, say_after_s: float, tell: Tell) -> None:
    waiting = f"waiting for {what}"
    try:
        until(is_held, what=waiting, timeout_s=min(say_after_s, timeout_s), poll_s=_POLL_S)
    except TimedOutError:
        if say_after_s >= timeout_s:
            raise
        tell(waiting)
        until(is_held, what=waiting, timeout_s=timeout_s - say_after_s, poll_s=_POLL_S, poll_max_s=_POLL_MAX_S)
