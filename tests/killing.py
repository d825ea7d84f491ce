"""A client in a process of its own that is killed: what it was doing stops there, and nothing cleans up."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn


def was_killed(work: Callable[[], object]) -> bool:
    """Do work in a forked process; return whether SIGKILL has ended it. It shares no memory with this one, but its servers."""
    pid = os.fork()
    if not pid:
        _work_and_exit(work)
    status = os.waitpid(pid, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def _work_and_exit(work: Callable[[], object]) -> NoReturn:
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)
