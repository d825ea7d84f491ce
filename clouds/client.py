"""Identify the process that created something, and check whether it may still be running.

A process is identified by its computer, process number and start time. The number is meaningful only within one boot of one
kernel and one PID namespace, so a client elsewhere (another computer, another container, a shared home folder) never counts as
dead: its work is left alone until its deadline.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

_KEY = b"bakehouse client"
"""machine-id(5): a machine id must not leave the computer; applications hash it with their own key."""
_HOST_NAMESPACE = "pid:[4026531836]"
"""The PID namespace of the host itself (PROC_PID_INIT_INO, include/linux/proc_ns.h); all others are containers."""
_HOST, _CONTAINER = "h", "c"
_MACHINE_ID_LENGTH = 32
"""Hexadecimal digits: machine-id(5)."""
_DIGITS = 12
_HOST_END = 1 + _DIGITS


class Fate(StrEnum):
    """What is known of a client."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Computer:
    """The place where a process runs. `booted_at` is in seconds since the epoch; an id that cannot be read is ""."""

    host: str
    machine_id: str
    boot_id: str
    namespace: str
    booted_at: float

    @cached_property
    def mark(self) -> str:
        """Identify the computer, its boot and the PID namespace in 25 letters and digits; "" if one of them is unknown.

        The first letter distinguishes hosts from containers, the next 12 digits are the same across boots, the last 12 are not.
        """
        if not (self.machine_id and self.boot_id and self.namespace):
            return ""
        kind = _HOST if self.namespace == _HOST_NAMESPACE else _CONTAINER
        return kind + _digest(self.machine_id, self.host) + _digest(self.machine_id, self.boot_id, self.namespace)

    def is_that_of(self, mark: str) -> bool:
        """Return whether a mark has this boot and PID namespace, so that process numbers mean the same processes."""
        return self.mark[_HOST_END:] == mark[_HOST_END:]


@dataclass(frozen=True, slots=True)
class Client:
    """A process: the mark of its computer ("": unknown), its number, and its start time as returned by `process_start`."""

    computer: str
    pid: int
    start: int

    def fate(self, *, made_at: float, here: Computer | None = None) -> Fate:
        """Return whether this client is still running, as far as this computer can see.

        `made_at` is when it created the resource in question, in seconds since the epoch (0: unknown). After a restart of this
        computer, all its earlier clients are dead.
        """
        here = here or computer()
        if not (self.computer and here.mark):
            return Fate.UNKNOWN
        if here.is_that_of(self.computer):
            return _fate_of_process(self.pid, self.start)
        is_same_host = here.mark[0] == _HOST and self.computer[:_HOST_END] == here.mark[:_HOST_END]
        return Fate.DEAD if is_same_host and 0 < made_at < here.booted_at else Fate.UNKNOWN


def computer() -> Computer:
    """Return this computer in its current state."""
    import psutil  # 100 ms, which `./inv --list` need not spend

    return Computer(
        host=socket.gethostname(),
        machine_id=_machine_id(),
        boot_id=_read("/proc/sys/kernel/random/boot_id"),
        namespace=_link("/proc/self/ns/pid"),
        booted_at=psutil.boot_time(),
    )


def this_client() -> Client:
    """Return this process."""
    return Client(computer().mark, os.getpid(), process_start(os.getpid()))


def process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 if it does not exist or is a zombie.

    A zombie with live threads still has its files and ports open, so it counts as running.
    """
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        status = process.status()
        if status != psutil.STATUS_DEAD and not (status == psutil.STATUS_ZOMBIE and process.num_threads() <= 1):
            return round(_since_boot_s(process) * os.sysconf("SC_CLK_TCK"))
    return 0


def _since_boot_s(process: psutil.Process) -> float:
    """Return how long after boot a process started: unlike the boot time, this does not change when the clock is set."""
    import psutil

    while True:
        before = psutil.boot_time()
        since_s = process.create_time() - before
        if psutil.boot_time() == before:
            return since_s


def _fate_of_process(pid: int, start: int) -> Fate:
    """Check a process of this PID namespace. One that exists but is hidden (proc(5), hidepid) is unknown, not dead."""
    found = process_start(pid)
    if found == 0 and _is_hidden(pid):
        return Fate.UNKNOWN
    return Fate.ALIVE if found == start else Fate.DEAD


def _is_hidden(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _digest(*parts: str) -> str:
    return hmac.new(_KEY, "\n".join(parts).encode(), hashlib.sha256).hexdigest()[:_DIGITS]


def _machine_id() -> str:
    """Return the id of this computer, or ""; during the first boot the file may be empty or contain `uninitialized`."""
    found = _read("/etc/machine-id")
    return found if len(found) == _MACHINE_ID_LENGTH else ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def _link(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
