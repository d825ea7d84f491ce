"""A client in a process of its own that is killed: what it was doing stops there, and nothing cleans up."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

from bakery.bake import Baked
from bakery.events import Event
from bakery.resume import resume
from clouds.accounts import account_key
from clouds.driver import Cloud
from clouds.ledger import BakeNote, Ledger


class Stage(Protocol):
    """A cloud to connect to anew, a store, and what was told."""

    home: Path
    events: list[Event]

    def connect(self) -> Cloud: ...


def cases(requests: dict[str, int]) -> list[tuple[str, int, str]]:
    """Return (work, nth, before or after) for each of the requests that each work makes."""
    return [(work, nth, when) for work, count in requests.items() for nth in range(1, count + 1) for when in ("before", "after")]


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


def unfinished(stage: Stage) -> list[BakeNote]:
    """Return what the ledger says of bakes that have not ended."""
    return Ledger(stage.home / "ledger.sqlite3").bakes(account_key(stage.connect()))


def take_up(stage: Stage, bake_id: str) -> Baked:
    """Resume a bake with a new client, which is asked nothing."""

    def confirm(question: str) -> None:
        raise AssertionError(question)

    return resume(stage.connect(), bake_id, home=stage.home, confirm=confirm, on_event=stage.events.append)
