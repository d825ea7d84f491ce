"""Show several bakes at once: on a terminal a line for each that moves, elsewhere a line for each step that has ended."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TextIO

from bakery.events import Event, Note, StepEnded, StepStarted
from bakery.rebuild.jobs import Ended, Job
from bakery.view import label, outcome_of, spinners
from launcher.clean import clean
from launcher.command.outcome import Outcome


def choose(stream: TextIO, environ: Mapping[str, str] = os.environ) -> PlainBakes:
    """Return the view for a stream."""
    is_live = stream.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown")
    return LiveBakes(stream) if is_live else PlainBakes(stream)


class PlainBakes(AbstractContextManager["PlainBakes"]):
    """A line for each step that has ended. Its methods may be called by several threads."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lock = stream, threading.Lock()

    def __exit__(self, *exc: object) -> None:
        """Leave the stream open."""

    def show(self, job: Job, event: Event) -> None:
        """Show an event of a bake."""
        with self._lock:
            match event:
                case StepStarted():
                    self._moves(job, label(event))
                case StepEnded():
                    self._line(f"{job}: {event.name} {outcome_of(event)}")
                case Note(text):
                    self._line(f"{job}: {text}")

    def end(self, ended: Ended) -> None:
        """Show how a bake has ended."""
        with self._lock:
            is_good = ended.outcome is Outcome.SUCCEEDED
            made = f"baked {ended.image} in {ended.seconds:.0f} s"
            missed = f"{ended.outcome} in {ended.seconds:.0f} s: {ended.error}"
            next_step = [f"next: {ended.next_step}"] if ended.next_step else []
            self._line("\n  ".join([f"{ended.job}: {made if is_good else missed}", *ended.details, *next_step]))

    def _moves(self, job: Job, what: str) -> None:
        """Show what a bake is doing."""

    def _line(self, text: str) -> None:
        self._stream.write(f"{clean(text)}\n")
        self._stream.flush()


class LiveBakes(PlainBakes):
    """A spinner for each bake with its step and time; what has ended is above."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console

        super().__init__(stream)
        self._console = Console(file=stream, highlight=False)
        self._spinners = spinners(self._console)
        self._tasks: dict[Job, int] = {}

    def __enter__(self) -> LiveBakes:
        self._spinners.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove the moving part."""
        self._spinners.stop()

    def end(self, ended: Ended) -> None:
        """Show how a bake has ended, and remove its spinner."""
        super().end(ended)
        if (task := self._tasks.pop(ended.job, None)) is not None:
            self._spinners.remove_task(task)

    def _moves(self, job: Job, what: str) -> None:
        if job not in self._tasks:
            self._tasks[job] = self._spinners.add_task("", total=None)
        self._spinners.update(self._tasks[job], description=clean(f"{job}: {what}"))

    def _line(self, text: str) -> None:
        self._console.print(clean(text), soft_wrap=True, markup=False)
