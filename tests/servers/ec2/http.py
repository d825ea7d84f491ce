"""HTTP: from the socket to `handle(request)` and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.servers.ec2.faults import Hang


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as it came."""

    method: str
    path: str
    headers: Message
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Server(ThreadingHTTPServer):
    """A server on a free port of the loopback address; its threads end with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handle: Callable[[Ask], Reply], tick: Callable[[], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.handle, self._tick = handle, tick

    def service_actions(self) -> None:
        self._tick()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            reply = self.server.handle(Ask(self.command, self.path, self.headers, body))
        except Hang:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": "text/xml;charset=UTF-8", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)
        self.wfile.flush()

    do_DELETE = do_GET = do_POST = do_PUT = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing; tests read `calls`."""
