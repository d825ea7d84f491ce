"""Run several bakes at the same time, each in a process of its own, and follow their events.

An interrupted run passes the signal on and waits: each bake cleans up its own machine and disk, and has its own time limits.
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Protocol

from bakery.events import Event, LogText, Note, StepEnded, StepStarted
from launcher.command.outcome import Outcome, outcome

ROOT = Path(__file__).parents[2]
_LINES_KEPT = 1000
"""Of what a bake writes to standard error."""
_ERROR, _NEXT = "error: ", "next: "
_EVENTS = {"step-started": StepStarted, "step-ended": StepEnded, "log-text": LogText, "note": Note}


class Follower(Protocol):
    """Follows the bakes; its methods are called by several threads."""

    def show(self, job: Job, event: Event) -> None:
        """Take the next event of a bake."""

    def end(self, ended: Ended) -> None:
        """Take the end of a bake."""


@dataclass(frozen=True, slots=True)
class Job:
    """A bake to run: a recipe (its name, or the path of its file) on a cloud; `is_forced`: even if an equal image exists."""

    recipe: str
    cloud: str
    is_forced: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        return f"{Path(self.recipe).stem} on {self.cloud}"

    @property
    def command(self) -> list[str]:
        """The command that bakes."""
        words = ["bake", "--recipe", self.recipe, "--cloud", self.cloud, "--refresh", "--json"]
        words += ["--force"] if self.is_forced else []
        return [sys.executable, "-P", "-m", "invoke", "--search-root", str(ROOT), *words]


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a bake: its image, or why there is none, and what to do (`next_step`, "" if nobody knows).

    `details` are lines about the failure, such as the last output of the guest.
    """

    job: Job
    outcome: Outcome
    seconds: float
    image: str = ""
    error: str = ""
    details: Sequence[str] = ()
    next_step: str = ""


def run(jobs: Sequence[Job], *, at_once: int, follower: Follower) -> list[Ended]:
    """Run bakes, at most `at_once` at the same time; return how each has ended, in the same order.

    KeyboardInterrupt is raised once all of them have ended.
    """
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    ended: dict[Job, Ended] = {}
    running: dict[Job, subprocess.Popen[str]] = {}
    lock, is_stopping = threading.Lock(), threading.Event()

    def bake_next() -> bool:
        with lock:
            if is_stopping.is_set() or waiting.empty():
                return False
            job = waiting.get()
            try:
                running[job] = _start(job)
            except OSError as error:  # too many processes or open files
                ended[job] = Ended(job, Outcome.FAILED, 0.0, error=f"could not start the bake: {error.strerror}")
        if job in running:
            ended[job] = _follow(job, running[job], follower)
        follower.end(ended[job])
        return True

    def work(end: threading.Event) -> None:
        try:
            while bake_next():
                pass
        finally:
            end.set()

    # Events, since Thread.join takes a thread for ended when a signal interrupts it (_wait_for_tstate_lock of Python 3.11, 3.12).
    ends = [threading.Event() for _ in range(min(at_once, len(jobs)))]
    for end in ends:
        threading.Thread(target=work, args=(end,), daemon=True).start()
    try:
        for end in ends:
            end.wait()
    except KeyboardInterrupt:
        with lock:
            is_stopping.set()
        for process in running.values():
            process.terminate()
        for end in ends:
            end.wait()
        raise
    return [ended[job] for job in jobs]


def _start(job: Job) -> subprocess.Popen[str]:
    """Start a bake in a session of its own: Ctrl-C reaches it through us alone, once."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(job.command, text=True, errors="replace", start_new_session=True, **pipes)


def _follow(job: Job, process: subprocess.Popen[str], follower: Follower) -> Ended:
    """Report the events of a bake until it ends."""
    began, said, image = time.monotonic(), deque[str](maxlen=_LINES_KEPT), ""
    reading = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    reading.start()
    for line in process.stdout or ():
        value = _read(line)
        image = str(value.get("image", image))
        if event := _event(value):
            follower.show(job, event)
    reading.join()
    how = outcome(status := process.wait())
    seconds = time.monotonic() - began
    if how is Outcome.SUCCEEDED:
        return Ended(job, how, seconds, image)
    error, details, next_step = _parts([line.rstrip() for line in said if line.strip()])
    error = error or f"it has ended without a message (status {status})"
    return Ended(job, how, seconds, error=error, details=details, next_step=next_step)


def _parts(lines: list[str]) -> tuple[str, list[str], str]:
    """Return the error that a command has printed last: its cause, details such as the last output of the guest, the next step."""
    at = max((number for number, line in enumerate(lines) if line.startswith(_ERROR)), default=len(lines) - 1)
    steps = next((number for number, line in enumerate(lines[at:], at) if line.startswith(_NEXT)), len(lines))
    next_step = " ".join(line.strip() for line in lines[steps:]).removeprefix(_NEXT)
    return "".join(lines[at : at + 1]).removeprefix(_ERROR), lines[at + 1 : steps], next_step


def _read(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _event(value: dict[str, Any]) -> Event | None:
    kind = _EVENTS.get(value.pop("event", ""))
    known = {one.name for one in fields(kind)} if kind else set()
    return kind(**{key: given for key, given in value.items() if key in known}) if kind else None
