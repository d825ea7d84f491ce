"""Talk to a running machine: to QEMU by QMP, to the agent inside the guest, and to a guest that waits for an order.

All three exchange lines of JSON or text over a unix socket. The package qemu.qmp implements the first, but takes 100 ms to load,
a tenth of a launch.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from clouds.errors import CloudError, TimedOutError
from clouds.local.vm.qemu import AGENT, ORDER, QMP
from clouds.waiter import until

DISK_S = 600.0
"""How long a reply may take that waits for the disk: a USB stick with 5 MB/s takes 10 minutes to flush 3 GB."""
_QMP_S = 10.0
# QEMU drains and flushes the disk before it replies to these (do_vm_stop in system/cpus.c, external snapshots and block_resize in
# blockdev.c; `cont` reopens it), and serves no other command until then. `quit` returns at once, but only after those in progress.
_DISK_COMMANDS = frozenset({"stop", "cont", "quit", "migrate_cancel", "blockdev-snapshot-sync", "block_resize"})
_RECEIVE_BYTES = 65536
_EXIT_POLL_S, _EXIT_POLL_MAX_S = 0.02, 0.2
"""Interval, at first and later, of polling the agent for the end of a program: it sends no notification."""


class _Line:
    """A line-based connection. Connecting, and waiting too long for a reply, raise OSError."""

    def __init__(self, folder: Path, name: str, *, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _socket_path(folder, name) as path:
                self._socket.settimeout(timeout_s)
                self._socket.connect(path)
            self._greet()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def _greet(self) -> None:
        """Start the conversation."""

    def _send(self, line: bytes) -> None:
        self._socket.settimeout(self._left_s())
        self._socket.sendall(line)

    def _line(self) -> bytes:
        while b"\n" not in self._received:
            self._socket.settimeout(self._left_s())
            piece = self._socket.recv(_RECEIVE_BYTES)
            if not piece:
                raise ConnectionError("the connection was closed by the other side")
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _left_s(self) -> float:
        return max(0.001, self._deadline - time.monotonic())


class Monitor(_Line):
    """A connection to QEMU's monitor, by QMP (qemu.org/docs/master/interop/qmp-spec.html).

    `version` is QEMU's (major, minor). Each reply may take `timeout_s`, or `disk_s` for commands that wait for the disk;
    TimeoutError names the command.
    """

    version = (0, 0)

    def __init__(self, folder: Path, *, timeout_s: float = _QMP_S, disk_s: float = DISK_S) -> None:
        self._machine, self._timeout_s, self._disk_s = folder.name, timeout_s, disk_s
        self._limit_s, self._awaited = timeout_s, "greeting"
        super().__init__(folder, QMP, timeout_s=timeout_s)

    def execute(self, command: str, arguments: Mapping[str, object] | None = None, *, file: int | None = None) -> Any:
        """Execute a command, optionally with an open file, and return its result. ConnectionError: QEMU reports an error."""
        self._limit_s = max(self._timeout_s, self._disk_s) if command in _DISK_COMMANDS else self._timeout_s
        self._deadline, self._awaited = time.monotonic() + self._limit_s, f"reply to {command!r}"
        message = json.dumps({"execute": command, **({"arguments": dict(arguments)} if arguments else {})}).encode()
        if file is None:
            self._send(message)
        else:
            socket.send_fds(self._socket, [message], [file])
        while True:
            reply = json.loads(self._line())
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise ConnectionError(f"QMP {command}: {reply['error']['desc']}")

    def _line(self) -> bytes:
        try:
            return super()._line()
        except TimeoutError as error:
            what = f"machine {self._machine!r}: no {self._awaited} from QEMU within {self._limit_s:.0f} s"
            raise TimeoutError(f"{what}; it may be waiting for the disk") from error

    def _greet(self) -> None:
        version = json.loads(self._line())["QMP"]["version"]["qemu"]
        self.version = (version["major"], version["minor"])
        self.execute("qmp_capabilities")


def qmp(folder: Path, command: str, arguments: Mapping[str, object] | None = None) -> Any:
    """Execute one QMP command and return its result; raises OSError if QEMU does not reply."""
    with Monitor(folder, timeout_s=DISK_S if command in _DISK_COMMANDS else _QMP_S) as monitor:
        return monitor.execute(command, arguments)


class Orders(_Line):
    """A connection to a guest that waits for an order (templates/base/root/usr/lib/bakehouse/await)."""

    def __init__(self, folder: Path, *, timeout_s: float) -> None:
        super().__init__(folder, ORDER, timeout_s=timeout_s)

    def is_waiting(self) -> bool:
        """Return whether the guest waits with its disk idle; until then it does not reply."""
        number = f"{secrets.randbits(31)}".encode()
        self._send(b"\nping " + number + b"\n")
        try:
            while self._line() != b"waiting " + number:
                continue
        except TimeoutError:
            return False
        return True

    def send(self, order: Mapping[str, object]) -> None:
        """Send an order to a waiting guest, and return once it has accepted it. CloudError: it refused, and why."""
        number = f"{secrets.randbits(31)}"
        self._send(f"\norder {number} {json.dumps(order)}\n".encode())
        taken, refused = f"taken {number}", f"refused {number} "
        while (line := self._line().decode(errors="replace")) != taken:  # skip replies to earlier clients
            if line.startswith(refused):
                words = line.removeprefix(refused)
                raise CloudError(f"the guest refused its order: {words}", next_step="See its console: ./inv log NAME.")


class Agent(_Line):
    """A connection to the guest agent. Connecting raises OSError if the agent does not reply in time."""

    def __init__(self, folder: Path, *, timeout_s: float) -> None:
        super().__init__(folder, AGENT, timeout_s=timeout_s)

    def shut_down(self) -> None:
        """Start a normal shutdown of the guest, not by guest-shutdown: with that the agent waits for its own end, up to 90 s."""
        self._ask("guest-exec", {"path": "systemctl", "arg": ["--no-block", "poweroff"]})

    def execute(self, path: str, *arguments: str, stdin: str = "", timeout_s: float = 0.0) -> None:
        """Run a program in the guest, for at most `timeout_s` (0: the time left for this connection).

        Raises CloudError with its stderr if it fails, TimedOutError if it takes longer.
        """
        if timeout_s:
            self._deadline = time.monotonic() + timeout_s
        limit_s = self._left_s()
        given = base64.b64encode(stdin.encode()).decode()
        wanted = {"path": path, "arg": list(arguments), "input-data": given, "capture-output": True}
        try:
            status = self._await_exit(self._ask("guest-exec", wanted)["pid"])
        except (TimeoutError, TimedOutError) as error:  # the agent was silent, or the program went on
            what = f"{path} in the guest: timed out after {limit_s:.0f} s"
            raise TimedOutError(what, next_step="Try again in a moment.") from error
        if status.get("exitcode") != 0:
            words = base64.b64decode(status.get("err-data", "")).decode(errors="replace").strip()
            raise CloudError(f"{path} in the guest: {words or 'failed'}", next_step="See its console: ./inv log NAME.")

    def _await_exit(self, pid: int) -> Any:
        """Wait for a program in the guest and return its status."""

        def status() -> Any:
            found = self._ask("guest-exec-status", {"pid": pid})
            return found if found["exited"] else None

        return until(status, what="a program", timeout_s=self._left_s(), poll_s=_EXIT_POLL_S, poll_max_s=_EXIT_POLL_MAX_S)

    def _greet(self) -> None:
        """Synchronize with the agent: discard leftovers of an earlier connection on both sides."""
        number = secrets.randbits(31)
        self._send(b"\xff")
        self._say({"execute": "guest-sync-delimited", "arguments": {"id": number}})
        while self._reply() != {"return": number}:
            self._check_time()

    def _ask(self, command: str, arguments: Mapping[str, object]) -> Any:
        self._say({"execute": command, "arguments": dict(arguments)})
        reply = self._reply()
        if "error" in reply:
            raise CloudError(f"guest agent, {command}: {reply['error'].get('desc', 'refused')}", next_step="Try again in a moment.")
        return reply["return"]

    def _say(self, message: Mapping[str, object]) -> None:
        self._send(json.dumps(message).encode() + b"\n")

    def _reply(self) -> dict[str, Any]:
        line = self._line()
        try:
            reply: dict[str, Any] = json.loads(line.rpartition(b"\xff")[2] or b"{}")
        except json.JSONDecodeError:
            return {}
        return reply

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimedOutError("the guest agent did not reply in time", next_step="Try again in a moment.")


@contextmanager
def _socket_path(folder: Path, name: str) -> Iterator[str]:
    """Yield a short path of a socket: the folder's own path may exceed the limit of socket paths."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
