"""Watch a guest run a script: read its console, follow the markers, and report at once why it stopped.

Each cause has its own error and its own signal: a failed step sends a marker, a full disk is in its log, a panic is a line of the
kernel, a stopped machine has a state. Only silence is detected by a deadline.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Sequence
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
"""The line in a failed step's log that means that the guest's disk was full (templates/frame/failure.sh.j2)."""
LOG_MAX_BYTES = 64 * 2**20
"""The size of a stored log from which only its last half is kept."""
GAP = "\n[bakehouse: output is missing here: the cloud had discarded it before it was read]\n"
"""Marks a missing part in a stored console."""
_SYNTAX = re.compile(r"(line [0-9]+: (?:syntax error|unexpected EOF).*)")
"""Messages of bash's parser (bash 5.2, parse.y: report_syntax_error, parser_error)."""


def cause(failure: markers.Checkpoint, log: Sequence[str]) -> str:
    """Return why a step failed. bash reports no line of a command (0) for a syntax error, which is in the log, or for `exit`."""
    if failure.failed_line:
        return f"line {failure.failed_line} returned exit status {failure.exit_status}"
    syntax = next((found[1] for line in reversed(log) if (found := _SYNTAX.search(line))), "")
    return f"bash: {syntax}" if syntax else f"it returned exit status {failure.exit_status}"


def drop_oldest(path: Path, kept_bytes: int) -> None:
    """Keep about the last `kept_bytes` of a log, from the start of a line, below a line that says so."""
    with path.open("r+b") as file:
        dropped_bytes = max(0, file.seek(0, os.SEEK_END) - kept_bytes)
        file.seek(dropped_bytes)
        dropped_bytes += len(file.readline())
        rest = file.read()
        file.seek(0)
        file.write(f"[bakehouse: the oldest {dropped_bytes >> 20} MiB of the output were dropped]\n".encode() + rest)
        file.truncate()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What to watch: the machine, the nonce and names of its checkpoints, and the time limits.

    The first `reached` of the checkpoints are already done. `noun` is what a checkpoint is in messages: a step or a test.
    Console and log are read from `console_at` and `log_at` on; `console_rest` is the start of a line that continues there.
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
    noun: str = "step"
    console_at: Position = START
    console_rest: str = ""
    log_at: Position = START


@dataclass(slots=True)
class Watch:
    """The state of watching one machine. `seconds` holds the duration of each finished step, in order.

    `on_position` is called after each checkpoint with the position in the console, the incomplete line read before it, the position
    in the log, and the number of checkpoints reached.
    `on_fact` is called with each fact that the machine reports (key and value) and the number of checkpoints reached.
    `at_checkpoint`, if the machine waits at checkpoints, is called with the number of each one reached, except the last.
    """

    cloud: Cloud
    watched: Watched
    on_event: OnEvent
    at_checkpoint: Callable[[int], None] | None = None
    on_position: Callable[[Position, str, Position, int], None] | None = None
    on_fact: Callable[[str, str, int], None] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    _progress: markers.Progress = field(init=False)
    _console_at: Position = field(init=False)
    _log_at: Position = field(init=False)
    _tail: str = field(init=False)
    _has_marker: bool = field(init=False)
    _step_began: float = field(init=False)
    _last_sign: float = field(init=False)

    def __post_init__(self) -> None:
        self._progress = markers.Progress(self.watched.checkpoints, self.watched.reached)
        self._step_began = self._last_sign = time.monotonic()
        self._console_at, self._log_at = self.watched.console_at, self.watched.log_at
        self._tail, self._has_marker = self.watched.console_rest, self.watched.console_at != START

    def run(self) -> dict[str, float]:
        """Wait for the last checkpoint, and return the seconds of each step.

        Raises StepFailedError, GuestFullError, BuilderDiedError, KernelPanicError or BuilderSilentError, each with the
        current step and the last lines of its log.
        """
        self._report_start(self.watched.reached)
        try:
            until(
                self._look,
                what=f"machine {self.watched.machine!r}",
                timeout_s=self.watched.deadline_s,
                poll_max_s=self.cloud.limits.poll_max_s,
                last_seen=lambda: self._progress.current,
            )
        except TimedOutError:
            self._fail(BuilderSilentError, f"the script did not finish within its deadline of {self.watched.deadline_s:.0f} s")
        return self.seconds

    def _look(self) -> bool:
        """Return whether the script is done; raise the error if it has failed."""
        if time.monotonic() - self._last_sign > self.watched.silence_s:
            self._fail(BuilderSilentError, f"no output for {self.watched.silence_s:.0f} s")
        try:
            return self._follow()
        except NotFoundError:
            self._fail(BuilderDiedError, "the machine was deleted")

    def _follow(self) -> bool:
        """Read new output. Ask for the machine's state only if there is none, since each request counts on a cloud."""
        before = self._progress.reached
        has_news = self._read()
        waits = self.at_checkpoint and before < self._progress.reached and not self._progress.done
        if self.at_checkpoint and waits:
            self.at_checkpoint(self._progress.reached)
            self._step_began = self._last_sign = time.monotonic()
        if self.on_position and before < self._progress.reached:
            self.on_position(self._console_at, self._tail, self._log_at, self._progress.reached)
        if waits:
            return self._follow()  # the next step may be done already
        if not has_news and not self._progress.done:
            alive = is_running(self.cloud, self.watched.machine)
            if not alive and not self._read() and not self._progress.done:  # read its last output first
                self._fail(BuilderDiedError, "the machine stopped unexpectedly")
        return self._progress.done

    def _read(self) -> bool:
        """Read new output and return whether there was any; raise the error of a failed step."""
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
                self._has_marker = True
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
                size_bytes = file.tell()
            if size_bytes > LOG_MAX_BYTES:
                drop_oldest(path, LOG_MAX_BYTES // 2)

    def _advance(self, marker: markers.Marker) -> None:
        before = self._progress
        self._progress = markers.advance(before, [marker])
        for index in range(before.reached, self._progress.reached):
            skipped = marker.skipped if isinstance(marker, markers.Checkpoint) and marker.seq == index + 1 else ""
            self._end_step(before.names[index], ok=True, skipped=skipped)
            self._report_start(index + 1)
        if self._progress.failure and not before.failure:
            self._end_step(self._progress.failure.name, ok=False)

    def _report_start(self, index: int) -> None:
        names = self.watched.checkpoints
        if index < len(names):
            self.on_event(StepStarted(names[index], index + 1, len(names)))

    def _end_step(self, name: str, *, ok: bool, skipped: str = "") -> None:
        now = time.monotonic()
        self.seconds[name] = now - self._step_began
        self._step_began = now
        self.on_event(StepEnded(name, self.seconds[name], ok=ok, skipped=skipped))

    def _raise_failure(self, failure: markers.Checkpoint) -> None:
        log = self._progress.log
        if any(DISK_FULL in line for line in log):
            raise GuestFullError(
                f"step {failure.name!r} failed: the builder's disk is full",
                step=failure.name,
                log=log,
                next_step="Set a larger disk in the recipe: [builder] disk_gb.",
            )
        reused = "; finished steps are reused" if self.at_checkpoint else ""
        raise StepFailedError(
            f"{self.watched.noun} {failure.name!r} failed: {cause(failure, log)}",
            step=failure.name,
            log=log,
            next_step=f"Fix the step and bake again{reused}; for the whole log see: ./inv log {self.watched.bake_id}",
        )

    def _fail(self, kind: type[BuilderDiedError] | type[KernelPanicError] | type[BuilderSilentError], message: str) -> NoReturn:
        step = self._progress.current if self._has_marker else self._progress.names[0]
        last = self.watched.console_file.read_text(encoding="utf-8", errors="replace") if self.watched.console_file.exists() else ""
        raise kind(
            f"{message}; current step: {step!r}",
            step=step,
            log=last.splitlines()[-20:],
            next_step=f"For the whole console see: ./inv log {self.watched.bake_id}",
        )
