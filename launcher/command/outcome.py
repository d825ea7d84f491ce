"""How a command that ran as a child process has ended, by its exit status (`runner` lists them)."""

from __future__ import annotations

import signal
from enum import StrEnum

from launcher.command.output import BROKEN_PIPE

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals that stop a command, which then cleans up."""


class Outcome(StrEnum):
    """The end of a command."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It failed, or was killed by a signal that it cannot handle: then `gc` finds what is left."""
    CANCELLED = "cancelled"
    """A signal stopped it, and it has cleaned up."""


def outcome(status: int) -> Outcome:
    """Return how a command has ended whose exit status is `status`, -n if signal n killed it (`subprocess.Popen.returncode`).

    A stopping signal kills a command only before it has begun or after it has ended. Lost output (141) is no failure.
    """
    if status in (0, BROKEN_PIPE):
        return Outcome.SUCCEEDED
    is_stopped = status in (-number for number in STOPPING) or status in (128 + number for number in STOPPING)
    return Outcome.CANCELLED if is_stopped else Outcome.FAILED
