"""The metadata server of one machine, as Google's guest agent and our own scripts ask it.

Paths, the header and `wait_for_change`: cloud.google.com/compute/docs/metadata/querying-metadata.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers.vm import Vm

_PREFIX = "/computeMetadata/v1/"
_FLAVOR = ("Metadata-Flavor", "Google")
_CHANGE_S = 3600.0
"""For how long a question for changes is kept waiting, as nothing changes here while a machine is on."""

Tree = Mapping[str, Any]


def tree(vm: Vm) -> Tree:
    """Return all that a machine is told."""
    zone = f"projects/1/zones/{vm.zone}"
    return {
        "instance": {
            "attributes": dict(vm.metadata),
            "hostname": f"{vm.name}.c.demo.internal",
            "id": int(vm.id) if vm.id.isdigit() else 1,
            "machineType": "projects/1/machineTypes/custom",
            "name": vm.name,
            "networkInterfaces": [],
            "preempted": "FALSE",
            "scheduling": {"preemptible": "TRUE" if vm.spot else "FALSE"},
            "serviceAccounts": {},
            "tags": list(vm.tags),
            "virtualClock": {"driftToken": "0"},
            "zone": zone,
        },
        "oslogin": {"authenticate": {"sessions": {}}},
        "project": {"attributes": {}, "numericProjectId": 1, "projectId": "demo"},
    }


class MetadataServer:
    """Answers one machine on a free port of the loopback address until it is closed."""

    def __init__(self, vm: Vm) -> None:
        closed = threading.Event()
        content = tree(vm)

        class Handler(_Handler):
            def tree(self) -> Tree:
                return content

            def wait(self, timeout_s: float) -> None:
                closed.wait(timeout_s)

        self._closed = closed
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    tree: Callable[[], Tree]
    wait: Callable[[float], None]

    def do_GET(self) -> None:
        where, query = urlsplit(self.path), parse_qs(urlsplit(self.path).query)
        if self.headers.get(_FLAVOR[0]) != _FLAVOR[1]:
            return self._answer(403, "Missing Metadata-Flavor:Google header.")
        if where.path == "/":
            return self._answer(200, "0.1/\ncomputeMetadata/\n")
        found = _find(self.tree(), where.path)
        if found is None:
            return self._answer(404, "not found")
        text = _text(found, as_json="recursive" in query or query.get("alt") == ["json"])
        etag = hashlib.sha256(text.encode()).hexdigest()[:16]
        if query.get("wait_for_change") == ["true"] and query.get("last_etag") == [etag]:
            self.wait(float(query.get("timeout_sec", [_CHANGE_S])[0]))
        return self._answer(200, text, etag)

    def _answer(self, status: int, text: str, etag: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if text[:1] in ("{", "[") else "application/text")
        for name, value in (_FLAVOR, ("ETag", etag), ("Content-Length", str(len(text.encode())))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


def _find(tree: Tree, path: str) -> Any:
    if not path.startswith(_PREFIX):
        return None
    found: Any = tree
    for name in path.removeprefix(_PREFIX).split("/"):
        if name:
            found = found.get(_camel(name)) if isinstance(found, Mapping) and _camel(name) in found else _exact(found, name)
        if found is None:
            return None
    return found


def _exact(found: Any, name: str) -> Any:
    return found.get(name) if isinstance(found, Mapping) else None


def _camel(name: str) -> str:
    """Return how JSON spells a part of a path: `network-interfaces` is `networkInterfaces`."""
    first, *rest = name.split("-")
    return first + "".join(word.title() for word in rest)


def _text(found: Any, *, as_json: bool) -> str:
    if as_json:
        return json.dumps(found)
    if isinstance(found, Mapping):
        return "".join(f"{key}/\n" if isinstance(value, Mapping) else f"{key}\n" for key, value in found.items())
    return str(found)
