"""An archive with security updates, and PyPI's JSON API, both on one server of this computer."""

from __future__ import annotations

import hashlib
import json
import lzma
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from clouds.mirrors import Mirrors


def deb(name: str, version: str, *, source: str = "", arch: str = "amd64") -> str:
    """Return the entry of a package in a list of an archive, with its fields in Debian's order."""
    of = f"Source: {source}\n" if source else ""
    return f"Package: {name}\n{of}Version: {version}\nInstalled-Size: 1\nArchitecture: {arch}\nDescription: x\n"


@dataclass(slots=True)
class Archive:
    """What the server has, by path; `asked` are the paths that clients have asked for, `hangs` those that never get an answer."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    hangs: set[str] = field(default_factory=set)
    statuses: dict[str, int] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def mirrors(self) -> Mirrors:
        """The server as the mirror of both distributions."""
        return Mirrors(*[f"{self.url}/debian", f"{self.url}/debian-security", f"{self.url}/ubuntu", f"{self.url}/ubuntu-security"])

    def publish(self, suite: str, *entries: str, arch: str = "amd64", fields: str = "", component: str = "main") -> str:
        """Publish packages as the security updates of a suite, such as debian/trixie; return the path of their list."""
        distribution, codename = suite.split("/")
        folder = f"/{distribution}-security/dists/{codename}-security"
        content = lzma.compress("\n".join(entries).encode())
        path = f"{component}/binary-{arch}/Packages.xz"
        self.files[f"{folder}/{path}"] = content
        lines = f"MD5Sum:\n {'0' * 32} 1 {path}\nSHA256:\n {hashlib.sha256(content).hexdigest()} {len(content):8} {path}\n"
        signed = f"-----BEGIN PGP SIGNED MESSAGE-----\n\nSuite: stable-security\n{fields}{lines}-----BEGIN PGP SIGNATURE-----\n"
        self.files[f"{folder}/InRelease"] = signed.encode()
        return f"{folder}/{path}"

    @property
    def pypi(self) -> str:
        """The address of PyPI's JSON API."""
        return f"{self.url}/pypi"

    def put_python(self, name: str, version: str, *vulnerabilities: Mapping[str, object]) -> None:
        """Put a Python package on PyPI."""
        self.files[f"/pypi/{name}/{version}/json"] = json.dumps({"info": {}, "vulnerabilities": vulnerabilities}).encode()


@contextmanager
def serving() -> Iterator[Archive]:
    """Serve an empty archive on a loopback address."""
    archive = Archive()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            archive.asked.append(self.path)
            if self.path in archive.hangs:
                archive.ended.wait()
            content = archive.files.get(self.path, b"")
            self.send_response(archive.statuses.get(self.path, 200 if self.path in archive.files else 404))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that it overrides
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        archive.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield archive
        finally:
            archive.ended.set()
            server.shutdown()
            thread.join()
