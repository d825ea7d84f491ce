"""Parse the markers with which a guest reports progress on its console, among all other output.

A marker is one line of the journal that journald forwards to the console:

    [   17.123456] bakehouse[412]: NONCE checkpoint 3/7 packages ok ;
    [   17.123456] bakehouse[412]: NONCE checkpoint 3/7 packages failed line=12 exit=100 ;
    [   17.123456] bakehouse[412]: NONCE checkpoint 3/7 gpu skipped no GPU here ;
    [   17.123456] bakehouse[412]: NONCE log E: Unable to locate package nosuch ;
    [   17.123456] bakehouse[412]: NONCE fact host-key ssh-ed25519 AAAAC3... ;

Each watched boot has a new nonce; the guest joins its two halves only when it writes a marker, so neither a script's text,
nor `set -x`, nor a package's output, nor an older boot contains one. The closing `;` distinguishes a complete marker from
one that a kernel message has cut; the number of the next marker makes up for a cut or lost one.
Pure functions of text: nothing here waits or reads a console.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

TAG = "bakehouse"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A step has ended, number `seq` of `total`: successfully, or with the line and exit status of the command that failed.

    `skipped` is why a test could not be run here, in its own words.
    """

    seq: int
    total: int
    name: str
    failed_line: int | None = None
    exit_status: int | None = None
    skipped: str = ""

    @property
    def ok(self) -> bool:
        """Whether the step has succeeded."""
        return self.exit_status is None


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line from the log of a failed step."""

    text: str


@dataclass(frozen=True, slots=True)
class Fact:
    """A part of a machine's identity, such as its host key."""

    key: str
    value: str


Marker = Checkpoint | LogLine | Fact

_CHECKPOINT = re.compile(r"checkpoint (\d+)/(\d+) (\S+) (?:ok|skipped (.+)|failed line=(\d+) exit=(\d+)) ;")
_LOG = re.compile(r"log (.*) ;")
_FACT = re.compile(r"fact (\S+) (.+) ;")
_PANIC = re.compile(r"\[ *\d+\.\d+\] (?:---\[ end )?(?:Kernel panic - not syncing|PANIC): (.*)")
_COLOR = re.compile(r"\x1b\[[0-9;]*m")
"""journald (systemd 257, src/journal/journald-console.c) colors forwarded lines by priority."""


def split_lines(tail: str, text: str) -> tuple[list[str], str]:
    """Join the incomplete line of the last read with a new piece of console; return complete lines and the new incomplete one."""
    *lines, tail = (tail + text).replace("\r", "").split("\n")
    return lines, tail


def parse(line: str, nonce: str) -> Marker | None:
    """Read the marker in one line of console, or None: a line without this nonce is never a marker."""
    head, found, body = _COLOR.sub("", line).partition(f"]: {nonce} ")
    if not found or f"{TAG}[" not in head:
        return None
    if match := _CHECKPOINT.fullmatch(body):
        seq, total, name, skipped, failed_line, exit_status = match.groups()
        ended = Checkpoint(int(seq), int(total), name, skipped=skipped or "")
        return replace(ended, failed_line=int(failed_line), exit_status=int(exit_status)) if exit_status else ended
    if match := _LOG.fullmatch(body):
        return LogLine(match[1])
    if match := _FACT.fullmatch(body):
        return Fact(match[1], match[2])
    return None


def panic(line: str) -> str:
    """Return the reason if a line is the kernel's own panic message, else '' (also if a program quotes one)."""
    match = _PANIC.search(line)
    if not match or "]: " in line[: match.start()]:
        return ""
    return match[1].removesuffix("]---").strip() or "no reason given"


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a script: the names of its checkpoints in order, how many are reached, and the failure if any."""

    names: tuple[str, ...]
    reached: int = 0
    failure: Checkpoint | None = None
    log: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether the last checkpoint is reached."""
        return self.reached == len(self.names)

    @property
    def current(self) -> str:
        """The name of the current step, or of the last one."""
        return self.names[min(self.reached, len(self.names) - 1)]


def advance(progress: Progress, markers: Sequence[Marker]) -> Progress:
    """Apply markers in console order; ones with unexpected names, and repeated ones, change nothing."""
    for marker in markers:
        if isinstance(marker, LogLine) and progress.failure is None:
            progress = replace(progress, log=(*progress.log, marker.text))
        elif isinstance(marker, Checkpoint) and progress.failure is None and _fits(progress, marker):
            if marker.ok:
                progress = replace(progress, reached=max(progress.reached, marker.seq))
            else:
                progress = replace(progress, reached=max(progress.reached, marker.seq - 1), failure=marker)
    return progress


def _fits(progress: Progress, marker: Checkpoint) -> bool:
    return marker.total == len(progress.names) and 1 <= marker.seq <= marker.total and progress.names[marker.seq - 1] == marker.name
