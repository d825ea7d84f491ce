"""Watch a guest run a script: read its console, follow the markers, and tell at once why it stopped.

Every end has its own error, and none waits for a deadline when there is a signal: a failed step says so by a marker,
a full disk by its log, a panic by the kernel's own line, a death by the machine's state; only silence is a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from bakery.errors import BuilderDiedError, BuilderSilentError, GuestFullError, StepFailedError
from bakery.events import LogText, OnEvent, StepEnded, StepStarted
from clouds import markers
from clouds.capabilities import StreamsLog
from clouds.driver import START, Cloud, ConsoleText, Position
from clouds.errors import KernelPanicError, NotFoundError, TimedOutError
from clouds.home import names_file
from clouds.lifecycle import is_running
from clouds.waiter import until

DISK_FULL = "bakehouse: disk full"
"""The line by which a failed step's log says that the guest's disk was full (templates/frame/failure.sh.j2)."""
GAP = "\n[bakehouse: what was printed here was lost: more than the cloud keeps, before it was read]\n"
"""What stands in a console that is kept where a part is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What to watch: the machine, the nonce and names of the checkpoints it will write, and how long to be patient.

    The first `reached` of the checkpoints are behind it already.
    """

    machine: str
    bake_id: str
    nonce: str
    checkpoints: tuple[str, ...]
    deadline_s: float
    silence_s: float
    console_file: Path
    log_file: Path | None = None
    reached: int = 0


@dataclass(slots=True)
class Watch:
    """One watch under way. `seconds` holds how long each finished step took, in order.

    `on_position` is called at each checkpoint with: how far the console was read, the begin of a line that was read there
    without its end, how far the log was read, and how many checkpoints were reached.
    `on_fact` is called with each fact that the machine tells (key and value) and how many checkpoints are reached.
    `at_checkpoint` is called with the number of each checkpoint that the machine reaches but the last, where it waits there.
    """

    cloud: Cloud
    watched: Watched
    on_event: OnEvent
    at_checkpoint: Callable[[int], None] | None = None
    on_position: Callable[[Position, str, Position, int], None] | None = None
    on_fact: Callable[[str, str, int], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _progress: markers.Progress = field(init=False)
    _console_at: Position = START
    _log_at: Position = START
    _tail: str = ""
    _has_told: bool = False
    _step_began: float = field(init=False)
    _last_sign: float = field(init=False)

    def __post_init__(self) -> None:
        self._progress = markers.Progress(self.watched.checkpoints, self.watched.reached)
        self._step_began = self._last_sign = time.monotonic()

    def run(self) -> dict[str, float]:
        """Return the seconds of each step when the last checkpoint is reached.

        Raises StepFailedError, GuestFullError, BuilderDiedError, KernelPanicError or BuilderSilentError, each with the
        step that ran and the last lines of its log.
        """
        self._tell_start(self.watched.reached)
        try:
            until(
                self._look,
                what=f"machine {self.watched.machine}",
                timeout_s=self.watched.deadline_s,
                poll_max_s=self.cloud.limits.poll_max_s,
                last_seen=lambda: self._progress.current,
            )
        except TimedOutError:
            self._fail(BuilderSilentError, f"not finished within {self.watched.deadline_s:.0f} s, the deadline of the bake")
        return self.seconds

    def _look(self) -> bool:
        """Say whether all is done, or why it never will be."""
        if time.monotonic() - self._last_sign > self.watched.silence_s:
            self._fail(BuilderSilentError, f"no sign of life for {self.watched.silence_s:.0f} s")
        try:
            return self._follow()
        except NotFoundError:
            self._fail(BuilderDiedError, "the machine is gone: it was deleted meanwhile")

    def _follow(self) -> bool:
        """Read on. Only a machine that is silent is asked whether it lives: each question counts on a cloud."""
        before = self._progress.reached
        has_news = self._read()
        if self.on_position and before < self._progress.reached:
            self.on_position(self._console_at, self._tail, self._log_at, self._progress.reached)
        if self.at_checkpoint and before < self._progress.reached and not self._progress.done:
            self.at_checkpoint(self._progress.reached)
            self._step_began = self._last_sign = time.monotonic()
            return self._follow()  # what comes next may be done already
        if not has_news and not self._progress.done:
            alive = is_running(self.cloud, self.watched.machine)
            if not alive and not self._read() and not self._progress.done:  # what it wrote before it died counts
                self._fail(BuilderDiedError, "the machine ended before it was told to")
        return self._progress.done

    def _read(self) -> bool:
        """Read on, and say whether there was anything; raises why a step failed."""
        before = self._console_at, self._log_at
        self._read_log()
        self._read_console()
        if self._progress.failure:
            self._raise_failure(self._progress.failure)
        return before != (self._console_at, self._log_at)

    def _read_console(self) -> None:
        piece = self.cloud.console(self.watched.machine, self._console_at)
        self._console_at = piece.position
        self._keep(piece, self.watched.console_file)
        lines, self._tail = markers.split_lines("" if piece.lost else self._tail, piece.text)
        for line in lines:
            if reason := markers.panic(line):
                self._fail(KernelPanicError, f"the guest's kernel panicked: {reason}")
            if marker := markers.parse(line, self.watched.nonce):
                self._has_told = True
                self._advance(marker)
                if isinstance(marker, markers.Fact) and self.on_fact:
                    self.on_fact(marker.key, marker.value, self._progress.reached)
                    self._last_sign = time.monotonic()

    def _read_log(self) -> None:
        if self.watched.log_file is None or not isinstance(self.cloud, StreamsLog):
            return
        piece = self.cloud.log(self.watched.machine, self._log_at)
        self._log_at = piece.position
        self._keep(piece, self.watched.log_file)
        if piece.text:
            self.on_event(LogText(self._progress.current, piece.text))

    def _keep(self, piece: ConsoleText, path: Path) -> None:
        if piece.text:
            self._last_sign = time.monotonic()
            with names_file(path), path.open("a", encoding="utf-8") as file:
                file.write((GAP if piece.lost else "") + piece.text)

    def _advance(self, marker: markers.Marker) -> None:
        before = self._progress
        self._progress = markers.advance(before, [marker])
        for index in range(before.reached, self._progress.reached):
            self._end_step(before.names[index], ok=True)
            self._tell_start(index + 1)
        if self._progress.failure and not before.failure:
            self._end_step(self._progress.failure.name, ok=False)

    def _tell_start(self, index: int) -> None:
        names = self.watched.checkpoints
        if index < len(names):
            self.on_event(StepStarted(names[index], index + 1, len(names)))

    def _end_step(self, name: str, *, ok: bool) -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._step_began
        self._step_began = now
        self.on_event(StepEnded(name, self.seconds[name], ok=ok))

    def _raise_failure(self, failure: markers.Checkpoint) -> None:
        log = self._progress.log
        if any(DISK_FULL in line for line in log):
            raise GuestFullError(
                f"step {failure.name}: the builder's disk is full",
                step=failure.name,
                log=log,
                next_step="Give the recipe a larger disk: [builder] disk_gb.",
            )
        goes_on = ", which goes on from this step" if self.at_checkpoint else ""
        raise StepFailedError(
            f"step {failure.name}: line {failure.failed_line} of it ended with exit status {failure.exit_status}",
            step=failure.name,
            log=log,
            next_step=f"Mend the step in the recipe and bake again{goes_on}; the whole log: ./inv log {self.watched.bake_id}",
        )

    def _fail(self, kind: type[BuilderDiedError] | type[KernelPanicError] | type[BuilderSilentError], message: str) -> NoReturn:
        step = self._progress.current if self._has_told else self._progress.names[0]
        last = self.watched.console_file.read_text(encoding="utf-8", errors="replace") if self.watched.console_file.exists() else ""
        raise kind(
            f"{message}; it was in step {step}",
            step=step,
            log=last.splitlines()[-20:],
            next_step=f"The whole console is kept: ./inv log {self.watched.bake_id}",
        )
