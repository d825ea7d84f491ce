"""Show the progress of a bake: live on a terminal, as plain lines elsewhere, as JSON lines for programs.

A view is a context manager that takes events (`bakery.events`) and writes to one stream. The caller reports the result.
"""

from __future__ import annotations

import json
import os
import re
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TextIO

from bakery.events import Event, LogText, Note, StepEnded, StepStarted
from launcher.clean import clean

TAIL_LINES = 8
"""How many lines of the current step's log a terminal shows with --verbose."""


class View(Protocol):
    """Shows events while its `with` block lasts."""

    def __enter__(self) -> View: ...

    def __exit__(self, *exc: object) -> None: ...

    def show(self, event: Event) -> None:
        """Take the next event."""


def choose_view(stream: TextIO, *, as_json: bool = False, verbose: bool = False, environ: Mapping[str, str] = os.environ) -> View:
    """Return the view for a stream: live on a terminal that can overwrite lines, otherwise plain lines, or JSON."""
    if as_json:
        return JsonView(stream)
    if stream.isatty() and environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        return LiveView(stream, verbose=verbose)
    return PlainView(stream, verbose=verbose)


@dataclass(slots=True)
class Steps:
    """The steps in progress, outermost first, and the complete lines of their log."""

    under_way: list[StepStarted] = field(default_factory=list)
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _rest: str = ""

    def begin(self, step: StepStarted) -> None:
        """Add a step; one of the same name, and all inside it, are replaced."""
        self._drop(step.name)
        self.under_way.append(step)
        self.tail.clear()
        self._rest = ""

    def end(self, name: str) -> StepStarted:
        """Remove a step that has ended, and all inside it; return its start event."""
        return self._drop(name) or StepStarted(name, 0, 0)

    def log(self, text: str) -> list[str]:
        """Return the lines completed by a piece of log, as a terminal shows them."""
        *whole, self._rest = (self._rest + text).split("\n")
        lines = [clean(line.rstrip("\r").rpartition("\r")[2]).expandtabs() for line in whole]
        self.tail.extend(lines)
        return lines

    def _drop(self, name: str) -> StepStarted | None:
        found = [index for index, step in enumerate(self.under_way) if step.name == name]
        if not found:
            return None
        step = self.under_way[found[-1]]
        del self.under_way[found[-1] :]
        return step


class JsonView(AbstractContextManager["JsonView"]):
    """One JSON object per line; its key `event` is step-started, step-ended, log-text or note."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __exit__(self, *exc: object) -> None:
        """Leave the stream open."""

    def show(self, event: Event) -> None:
        """Write an event."""
        name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()
        self._stream.write(json.dumps({"event": name, **asdict(event)}) + "\n")
        self._stream.flush()


class PlainView(AbstractContextManager["PlainView"]):
    """A line at the start and the end of each step; with `verbose` its log in between."""

    def __init__(self, stream: TextIO, *, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self._steps = Steps()

    def __exit__(self, *exc: object) -> None:
        """Leave the stream open."""

    def show(self, event: Event) -> None:
        """Write an event."""
        match event:
            case StepStarted():
                self._steps.begin(event)
                self._write([f"{label(event)} ..."])
            case StepEnded(name):
                self._write([f"{label(self._steps.end(name))} {outcome_of(event)}"])
            case LogText(text=text):
                lines = self._steps.log(text)
                self._write(f"  | {line}" for line in lines if self._verbose)
            case Note(text):
                self._write([text])

    def _write(self, lines: Iterable[str]) -> None:
        self._stream.writelines(f"{clean(line)}\n" for line in lines)
        self._stream.flush()


class LiveView(AbstractContextManager["LiveView"]):
    """Finished steps above, a spinner for each step in progress below; with `verbose` the tail of its log."""

    def __init__(self, stream: TextIO, *, verbose: bool = False, width: int | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._verbose = verbose
        self._steps = Steps()
        self._console = Console(file=stream, highlight=False, width=width)
        self._marks = ("✓", "✗") if self._console.encoding.startswith("utf") else ("+", "!")
        self._spinners = spinners(self._console)
        self._live = Live(self._live_part(), console=self._console, refresh_per_second=8, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start(refresh=True)
        return self

    def __exit__(self, *exc: object) -> None:
        """Remove the moving part."""
        self._live.stop()

    def show(self, event: Event) -> None:
        """Show an event."""
        above: tuple[str, str, str] | None = None
        match event:
            case StepStarted():
                self._steps.begin(event)
            case StepEnded(name):
                mark, style = (self._marks[0], "green") if event.ok else (self._marks[1], "bold red")
                mark, style = ("-", "yellow") if event.skipped else (mark, style)
                above = mark, style, f"{label(self._steps.end(name))} {outcome_of(event)}"
            case LogText(text=text):
                self._steps.log(text)
            case Note(text):
                above = "-", "dim", text
        self._live.update(self._live_part())
        if above:
            self._print(*above)

    def _print(self, mark: str, style: str, line: str) -> None:
        from rich.text import Text

        self._console.print(Text.assemble((mark, style), " ", clean(line)), soft_wrap=True)

    def _live_part(self) -> Any:  # a renderable of rich, which is not loaded for the other views
        from rich.console import Group
        from rich.text import Text

        shown = {task.fields["step"]: task.id for task in self._spinners.tasks}
        for step in shown.keys() - set(self._steps.under_way):
            self._spinners.remove_task(shown[step])
        for step in self._steps.under_way:
            if step not in shown:
                self._spinners.add_task(label(step), total=None, step=step)
        tail = list(self._steps.tail) if self._verbose and self._steps.under_way else []
        return Group(self._spinners, *(Text(f"  | {line}", style="dim", no_wrap=True, overflow="ellipsis") for line in tail))


def spinners(console: Any) -> Any:
    """Return rich's progress display: a line per step in progress with name and time, never wider than the terminal."""
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Column

    name = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    spinner = SpinnerColumn("dots" if console.encoding.startswith("utf") else "line")
    return Progress(spinner, name, TimeElapsedColumn(), console=console)


def label(step: StepStarted) -> str:
    """Return a step's name, with its number."""
    return f"{step.name} {step.seq}/{step.total}" if step.total else step.name


def outcome_of(ended: StepEnded) -> str:
    """Return how a step has ended, in words."""
    if ended.skipped:
        return f"skipped: {ended.skipped}"
    how = "done in" if ended.ok else "interrupted after" if ended.interrupted else "failed in"
    return f"{how} {ended.seconds:.1f} s"
