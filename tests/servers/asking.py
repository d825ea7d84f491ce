"""Asking a test server in plain HTTP, without a client library that would put a wrong request right."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from email.message import Message
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.servers.gce import Gce
from tests.servers.gce.errors import Json

ZONE = "zones/us-central1-a"
BASE = "projects/debian-cloud/global/images/family/debian-13"
REGION = "regions/us-central1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: Json

    @property
    def reason(self) -> str:
        return str(self.body["error"]["errors"][0]["reason"])

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])


@dataclass(frozen=True, slots=True)
class Raw:
    """What came back, before it is read as JSON."""

    status: int
    headers: Message
    data: bytes


def ask(gce: Gce, method: str, path: str, body: object = None, *, project: str = "demo", **query: Any) -> Answer:
    """Send one request; `path` begins after the project."""
    raw = ask_raw(gce, method, path, body, project=project, **query)
    return Answer(raw.status, json.loads(raw.data))


def ask_raw(gce: Gce, method: str, path: str, body: object = None, *, project: str = "demo", **query: Any) -> Raw:
    """Send one request, whose answer need not be JSON."""
    connection = http.client.HTTPConnection(str(urlsplit(gce.url).hostname), gce.port, timeout=10)
    try:
        url = f"/compute/v1/projects/{project}/{path}".rstrip("/")
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection.request(method, url + (f"?{urlencode(query)}" if query else ""), data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return Raw(response.status, response.headers, response.read())
    finally:
        connection.close()


def get(gce: Gce, path: str, **query: Any) -> Json:
    """Return the body of a request that must go well."""
    answer = ask(gce, "GET", path, **query)
    assert answer.status == 200, answer
    return answer.body


def wait(gce: Gce, operation: Json) -> Json:
    """Return an operation when it is done."""
    path = operation["selfLink"].split("/projects/demo/")[1]
    return ask(gce, "POST", f"{path}/wait").body


def do(gce: Gce, method: str, path: str, body: object = None, **query: Any) -> Json:
    """Return the finished operation of a request that must go well; it may have ended with an error."""
    answer = ask(gce, method, path, body, **query)
    assert answer.status == 200, answer
    return wait(gce, answer.body)


def done(gce: Gce, method: str, path: str, body: object = None, **query: Any) -> Json:
    """Return the finished operation, which must have gone well too."""
    operation = do(gce, method, path, body, **query)
    assert "error" not in operation, operation["error"]
    return operation


def machine(name: str, **changes: Any) -> Json:
    """Return the body that makes an instance."""
    body: Json = {
        "name": name,
        "machineType": f"{ZONE}/machineTypes/e2-small",
        "disks": boot_disk(),
        "networkInterfaces": [{"accessConfigs": [{"type": "ONE_TO_ONE_NAT"}]}],
    }
    return body | changes


def boot(gce: Gce, name: str, **changes: Any) -> Json:
    """Make an instance that runs, and return it."""
    done(gce, "POST", f"{ZONE}/instances", machine(name, **changes))
    return get(gce, f"{ZONE}/instances/{name}")


def boot_disk(source: str = BASE, **params: Any) -> list[Json]:
    """Return disks with another source and other parameters than usual."""
    return [{"boot": True, "autoDelete": True, "initializeParams": {"sourceImage": source} | params}]
