"""HTTP: from the socket to `handle(method, path, query, body, agent)` and back; `agent` is the name of the client."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.gce.errors import Json
from tests.servers.gce.faults import Hang


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: a JSON body, or text that is sent as an HTML page."""

    status: int
    body: Json | str
    headers: Mapping[str, str] = field(default_factory=dict)


Handle = Callable[[str, str, dict[str, list[str]], bytes, str], Reply]


class Server(ThreadingHTTPServer):
    """A server on a free port of the loopback address; its threads end with the process."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handle: Handle, tick: Callable[[], None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.handle, self._tick = handle, tick

    def service_actions(self) -> None:
        self._tick()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def _serve(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            query, agent = parse_qs(url.query, keep_blank_values=True), self.headers.get("User-Agent", "")
            reply = self.server.handle(self.command, url.path, query, body, agent)
        except Hang:
            self.close_connection = True
            return
        is_page = isinstance(reply.body, str)
        data = (reply.body if isinstance(reply.body, str) else json.dumps(reply.body)).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "text/html; charset=UTF-8" if is_page else "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Print nothing; tests read `calls`."""
