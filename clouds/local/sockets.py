"""Talk to a running machine: to QEMU by QMP, and to the agent inside the guest."""

from __future__ import annotations

import base64
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clouds.errors import CloudError, TimedOutError
from clouds.local.qemu import AGENT, QMP

_QMP_S = 10.0
_RECEIVE_BYTES = 65536
# The library logs each connection that fails; the failure is an exception too, and told there.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


def qmp(folder: Path, command: str, arguments: Mapping[str, object] | None = None) -> Any:
    """Execute a command of QEMU's machine protocol and return its result; raises OSError when QEMU does not answer."""
    import asyncio  # with the library it takes 100 ms to load, which most commands can do without

    from qemu.qmp import QMPClient, QMPError

    async def talk(path: str) -> object:
        client = QMPClient("bakehouse")
        await client.connect(path)
        try:
            return await client.execute(command, dict(arguments) if arguments else None)
        finally:
            await client.disconnect()

    with _socket_path(folder, QMP) as path:
        try:
            return asyncio.run(asyncio.wait_for(talk(path), timeout=_QMP_S))
        except QMPError as error:
            raise ConnectionError(f"QMP {command}: {error}") from error
        except TimeoutError as error:
            raise ConnectionError(f"QMP {command}: no answer within {_QMP_S:.0f} s") from error


class Agent:
    """A conversation with the agent in the guest. Opening it raises OSError when the agent does not answer in time."""

    def __init__(self, folder: Path, *, timeout_s: float) -> None:
        self._deadline = time.monotonic() + timeout_s
        self._received = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with _socket_path(folder, AGENT) as path:
                self._socket.settimeout(timeout_s)
                self._socket.connect(path)
            self._synchronize()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def shut_down(self) -> None:
        """Have the guest begin to shut down in order. With guest-shutdown the agent waits for its own end, up to 90 s."""
        self._ask("guest-exec", {"path": "systemctl", "arg": ["--no-block", "poweroff"]})

    def execute(self, path: str, stdin: str = "") -> None:
        """Run a program in the guest to its end. Raises CloudError with its words when it fails."""
        given = base64.b64encode(stdin.encode()).decode()
        started = self._ask("guest-exec", {"path": path, "input-data": given, "capture-output": True})
        while True:
            status = self._ask("guest-exec-status", {"pid": started["pid"]})
            if status["exited"]:
                break
            self._check_time()
        if status.get("exitcode") != 0:
            words = base64.b64decode(status.get("err-data", "")).decode(errors="replace").strip()
            raise CloudError(
                f"{path} in the guest: {words or 'failed'}", next_step="Look at what its console says: ./inv log NAME."
            )

    def _synchronize(self) -> None:
        """Drop what was left over by an earlier conversation, on either side."""
        number = secrets.randbits(31)
        self._socket.sendall(b"\xff")
        self._send({"execute": "guest-sync-delimited", "arguments": {"id": number}})
        while self._reply() != {"return": number}:
            self._check_time()

    def _ask(self, command: str, arguments: Mapping[str, object]) -> Any:
        self._send({"execute": command, "arguments": dict(arguments)})
        reply = self._reply()
        if "error" in reply:
            raise CloudError(f"guest agent, {command}: {reply['error'].get('desc', 'refused')}", next_step="Try again in a moment.")
        return reply["return"]

    def _send(self, message: Mapping[str, object]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _reply(self) -> dict[str, Any]:
        while b"\n" not in self._received:
            self._socket.settimeout(max(0.01, self._deadline - time.monotonic()))
            piece = self._socket.recv(_RECEIVE_BYTES)
            if not piece:
                raise ConnectionError("the guest agent's line was closed")
            self._received += piece
        line, _, self._received = self._received.partition(b"\n")
        try:
            reply: dict[str, Any] = json.loads(line.rpartition(b"\xff")[2] or b"{}")
        except json.JSONDecodeError:
            return {}
        return reply

    def _check_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise TimedOutError("the guest agent did not answer in time", next_step="Try again in a moment.")


@contextmanager
def _socket_path(folder: Path, name: str) -> Iterator[str]:
    """Give a path of few bytes for a socket: the folder's own may be longer than a socket's may be."""
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)
