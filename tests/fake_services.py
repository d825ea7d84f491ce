"""What answers on the ports of a fake machine: an SSH server's greeting, and a notebook's log-in. On loopback only."""

from __future__ import annotations

import atexit
import functools
import hashlib
import http.server
import json
import os
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error

from clouds.driver import Endpoint

_COOKIE = "session=logged-in"


class _Greeter(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"SSH-2.0-fake\r\n")


@functools.cache
def ssh() -> Endpoint:
    """Return where something greets as an SSH server does; one serves all fake machines, and ends with the process."""
    return _serve(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Greeter))


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate: the file that holds it and its key, and its SHA-256 fingerprint."""

    file: str
    fingerprint: str


@functools.cache
def certificate() -> Certificate:
    """Return the certificate of every fake notebook that speaks TLS, made as templates/machine/identity.py.j2 makes one."""
    with tempfile.NamedTemporaryFile(delete=False, suffix=".pem") as file:
        atexit.register(os.unlink, file.name)
    words = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2", "-subj", "/CN=fake"]
    subprocess.run(["openssl", "req", *words, "-keyout", file.name, "-out", file.name], check=True, capture_output=True)
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(Path(file.name).read_text().partition("-----END PRIVATE KEY-----\n")[2]))
    return Certificate(file.name, ":".join(f"{byte:02X}" for byte in digest.digest()))


def notebook(password_hash: Callable[[], str], *, tls: bool = False) -> Endpoint:
    """Return where a notebook answers that lets in whoever knows the password behind `argon2:...`."""

    class Handler(_Notebook):
        def is_right(self, password: str) -> bool:
            try:
                return PasswordHasher().verify(password_hash().removeprefix("argon2:"), password)
            except Argon2Error:
                return False

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate().file)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return _serve(server)


class _Notebook(http.server.BaseHTTPRequestHandler):
    """The few answers of Jupyter Server that a log-in meets."""

    def is_right(self, password: str) -> bool:
        raise NotImplementedError

    def do_GET(self) -> None:
        if self.path == "/login":
            self._answer(200, headers={"Set-Cookie": "_xsrf=token"})
        elif self.path == "/api/kernelspecs" and _COOKIE in self.headers.get("Cookie", ""):
            self._answer(200, json.dumps({"kernelspecs": {"python3": {}}}))
        else:
            self._answer(403)

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form["_xsrf"] == ["token"] and self.is_right(form["password"][0]):
            self._answer(302, headers={"Location": "/lab", "Set-Cookie": _COOKIE})
        else:
            self._answer(401)

    def _answer(self, status: int, body: str = "", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


def _serve(server: socketserver.TCPServer) -> Endpoint:
    server.daemon_threads = True  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host, port = server.server_address[:2]
    return Endpoint(str(host), int(port))
