"""Send files to a builder with sftp(1), and continue with what is missing after the connection broke.

The program of OpenSSH does it all: `put` and `reput` (which appends what is missing), and a rename at the end, by which the
builder knows that it has everything. All files of a transfer are in one folder of the client (0700).
"""

from __future__ import annotations

import math
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bakery.shipment import MB
from clouds.driver import Cloud, Endpoint, Tell
from clouds.errors import BakehouseError, CloudError, TimedOutError
from clouds.lifecycle import is_running
from clouds.waiter import until
from launcher.access.identity import openssh
from launcher.access.ssh_errors import explain
from launcher.clean import clean

KEY, KNOWN_HOSTS, MANIFEST = "key", "known_hosts", "manifest"
"""The files of a transfer beside those that are sent: the client's private key, the pinned host key, `SHA256  NAME` lines."""
COMPLETE = "complete"
"""The name that the manifest gets on the builder last (templates/receive.sh.j2)."""
_FAILED = 255
"""How sftp(1) ends when its connection failed; 1: a command did."""
_RETRY_S = 2.0
_READMIT_S = 60.0
"""How far apart changes of the firewall are, at least, while no connection can be made."""
_ASKS_MAX = 3
"""How often the last command is tried: when its answer was lost, the builder may have closed its SSH server already."""
_LISTED = re.compile(r"-\S+ +\S+ +\S+ +\S+ +(\d+) .* (\S+)")
"""A file in the output of `ls -ln`."""
_NEVER_WELL = re.compile(r"Permission denied|Host key verification failed|HOST IDENTIFICATION HAS CHANGED|Too many authentication")
"""What OpenSSH says when trying again does not help."""
_OPTIONS = {
    "User": "root",
    "IdentityFile": KEY,
    "IdentitiesOnly": "yes",
    "UserKnownHostsFile": KNOWN_HOSTS,
    "GlobalKnownHostsFile": "none",
    "StrictHostKeyChecking": "yes",
    "HostKeyAlgorithms": "ssh-ed25519",
    "PreferredAuthentications": "publickey",
    "BatchMode": "yes",
    "ControlPath": "none",
    "Compression": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
}


@dataclass(slots=True)
class Sending:
    """One transfer: files of these sizes (bytes, by name) in a folder, with KEY, KNOWN_HOSTS and MANIFEST."""

    cloud: Cloud
    machine: str
    endpoint: Endpoint
    folder: Path
    sizes: Mapping[str, int]
    tell: Tell
    readmit: Callable[[], object] = lambda: None
    """Lets the address that this computer has now into the builder: a firewall drops what another address sends."""
    progress_s: float = 5.0
    """How far apart the lines of progress are, at least."""
    _there: dict[str, int] = field(default_factory=dict)
    _knows: bool = True
    """Whether `_there` holds the sizes of what is on the builder: nothing at first."""
    _asked: int = 0
    _said: str = ""
    _readmitted_at: float = -math.inf
    _told_at: float = field(default_factory=time.monotonic)

    @property
    def _total_bytes(self) -> int:
        return sum(self.sizes.values())

    def run(self, timeout_s: float) -> None:
        """Send everything within that time, unless the builder ends: whoever watches it learns why from its console.

        CloudError: it cannot be sent, or not in time.
        """
        self.tell(f"sending {self._total_bytes / MB:.1f} MB to the builder")
        deadline = time.monotonic() + timeout_s
        try:
            until(
                lambda: self._attempt(deadline) or not is_running(self.cloud, self.machine),
                what=f"machine {self.machine}: sending {self._total_bytes / MB:.1f} MB over SSH",
                timeout_s=timeout_s,
                poll_s=_RETRY_S * min(1.0, self.cloud.slowness),
                last_seen=lambda: self._said,
            )
        except TimedOutError as error:
            # Another class: whoever watches the builder takes TimedOutError for the deadline of the bake.
            raise CloudError(error.message, next_step="Check the connection of this computer and bake again.") from error

    def _attempt(self, deadline: float) -> bool:
        """Send what is missing; say whether the builder has everything and knows it. False: the connection failed."""
        if not self._knows:
            self._knows = self._sftp(["ls -ln"], deadline)
        if not self._knows:
            return False
        if missing := self._commands():
            self._knows = self._sftp([*missing, "ls -ln"], deadline)
            if not self._knows:
                return False
        if self._commands():
            raise CloudError(f"machine {self.machine}: files have arrived with other sizes", next_step="Bake again.")
        if self._sftp([f"put {MANIFEST} {MANIFEST}", f"rename {MANIFEST} {COMPLETE}"], deadline):
            return True
        if self._asked or self._has_begun:  # before that, a failed connection says nothing of the builder
            self._asked += 1
        return self._asked == _ASKS_MAX

    def _commands(self) -> list[str]:
        """Return the commands that send what is missing."""
        return [
            f"{'reput' if 0 < self._there.get(name, 0) < size else 'put'} {name} {name}"
            for name, size in self.sizes.items()
            if self._there.get(name) != size
        ]

    def _sftp(self, commands: list[str], deadline: float) -> bool:
        """Run commands, and learn from a list among them what is there; say whether the connection lasted."""
        (self.folder / "batch").write_text("".join(f"{command}\n" for command in commands), encoding="utf-8")
        options = [word for key, value in _OPTIONS.items() for word in ("-o", f"{key}={value}")]
        alias = ["-o", f"HostKeyAlias={self.machine}", "-P", str(self.endpoint.port)]
        argv = ["sftp", "-F", "none", "-b", "batch", *options, *alias, self.endpoint.host]
        with (self.folder / "listed").open("wb") as out, (self.folder / "said").open("wb") as said, openssh():
            process = subprocess.Popen(argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=out, stderr=said)
            self._await(process, deadline)
        self._there |= _listed((self.folder / "listed").read_text(encoding="utf-8", errors="replace"))
        return self._check(process.returncode)

    def _await(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Wait until sftp has ended, and report progress meanwhile."""

        def has_ended() -> bool:
            self._tell_progress(process.pid)
            return process.poll() is not None

        try:
            left_s = max(0.0, deadline - time.monotonic())
            with suppress(TimedOutError):  # `run` says so
                until(has_ended, what="sftp", timeout_s=left_s, poll_s=0.02, poll_max_s=1.0)
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _tell_progress(self, process_id: int) -> None:
        if time.monotonic() - self._told_at < self.progress_s:
            return
        if at := _position(process_id, self.folder, self.sizes):
            self._told_at = time.monotonic()
            name, position = at
            names = list(self.sizes)
            sent_bytes = position + sum(self.sizes[before] for before in names[: names.index(name)])
            percent = 100 * sent_bytes // self._total_bytes
            self.tell(f"sending {self._total_bytes / MB:.1f} MB to the builder ({percent} %)")

    def _readmit(self) -> None:
        if time.monotonic() - self._readmitted_at > _READMIT_S:
            self._readmitted_at = time.monotonic()
            with suppress(BakehouseError):  # the network may be down; the next attempt tries again
                self.readmit()

    @property
    def _has_begun(self) -> bool:
        """Whether the last connection was made: sftp prints each command that it begins."""
        return (self.folder / "listed").stat().st_size > 0

    def _check(self, status: int) -> bool:
        """Return False after a failure of the connection that may pass. CloudError: another failure."""
        self._said = clean((self.folder / "said").read_text(encoding="utf-8", errors="replace")).strip() or self._said
        if status <= 0:  # else a signal has ended it: ours, at the deadline
            return not status
        if status == _FAILED and not _NEVER_WELL.search(self._said):
            if not self._has_begun and "timed out" in self._said:
                self._readmit()
            if self._has_begun:
                self.tell(f"the connection to the builder broke ({self._said.rpartition(chr(10))[2]}); continuing")
            return False
        explained = explain(self._said, machine=self.machine, endpoint=self.endpoint, is_remote=self.cloud.is_remote)
        message = explained.message if explained and status == _FAILED else f"machine {self.machine}: sftp failed\n{self._said}"
        raise CloudError(
            message, next_step="Bake again; if the builder's disk is full, give the recipe a larger [builder] disk_gb."
        )


def _listed(text: str) -> dict[str, int]:
    found = (_LISTED.fullmatch(line) for line in text.splitlines())
    return {match[2]: int(match[1]) for match in found if match}


def _position(process_id: int, folder: Path, sizes: Mapping[str, int]) -> tuple[str, int] | None:
    """Return which of the files a process reads and how far it is, in bytes; None: unknown (not on Linux)."""
    import psutil

    with suppress(psutil.Error):
        for file in psutil.Process(process_id).open_files():
            path = Path(file.path)
            if path.name in sizes and path.parent == folder.resolve():
                return path.name, getattr(file, "position", 0)
    return None
