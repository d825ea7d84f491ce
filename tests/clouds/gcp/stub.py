"""A stub of the network before Compute Engine: it answers by a table of literal bodies, as public threads show them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter

from clouds.driver import BootSpec
from clouds.errors import CloudError
from clouds.gcp.client import Client
from clouds.gcp.driver import GoogleCloud
from clouds.gcp.images import Images
from clouds.gcp.places import places

BASE = "https://compute.googleapis.com/compute/v1/projects/demo/"
NOW_S = 1000.0


class Answer(NamedTuple):
    """An HTTP answer; `retry_after_s` is what its header Retry-After asks for, 0 without one."""

    status: int
    content: bytes
    retry_after_s: int = 0

    def response(self, request: requests.PreparedRequest) -> requests.Response:
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}
        body = io.BytesIO(self.content)
        raw = urllib3.HTTPResponse(body, headers, self.status, preload_content=False)
        return HTTPAdapter().build_response(request, raw)


Reply = Answer | Mapping[str, Any] | Callable[[], "Answer | Mapping[str, Any]"]
SPEC = BootSpec(
    name="lab",
    token="t-mine",
    source="tiny-0.1.0-1",
    cpus=2,
    memory_mb=2048,
    disk_gb=10,
    labels={"project": "bakehouse", "token": "t-mine", "role": "machine-in-progress"},
    deadline_s=0,
    ports=(22,),
)


def refusal(status: int, reason: str, message: str) -> Answer:
    """Return an error as the service writes it (hashicorp/terraform-provider-google, passim)."""
    first = {"message": message, "domain": "global", "reason": reason}
    return Answer(status, json.dumps({"error": {"code": status, "message": message, "errors": [first]}}).encode())


def told(answer: Answer) -> CloudError:
    """Return the error for an answer."""
    client = Client("demo", "http://127.0.0.1:9", retry_s=0, adapter=Stub({"GET global/networks/any": answer}))
    with pytest.raises(CloudError) as raised:
        client.ask("machine m", client.services.networks.get, network="any")
    return raised.value


def absent(path: str) -> Answer:
    return refusal(404, "notFound", f"The resource 'projects/demo/{path}' was not found")


def operation(name: str, target: str, *, status: str = "DONE", scope: str = "zones/us-central1-a", **more: Any) -> dict[str, Any]:
    link = f"{BASE}{scope}/operations/{name}"
    return {"kind": "compute#operation", "name": name, "status": status, "selfLink": link, "targetLink": BASE + target, **more}


def instance(name: str, *, zone: str = "us-central1-a", status: str = "RUNNING", **more: Any) -> dict[str, Any]:
    return {"name": name, "zone": f"{BASE}zones/{zone}", "status": status, "labels": {"project": "bakehouse"}, **more}


def unreachable(*zones: str, **found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return an aggregated list in which some zones are missing (discovery document of compute v1: InstanceAggregatedList)."""
    items = {f"zones/{zone}": {"warning": {"code": "UNREACHABLE", "message": "The zone is unreachable."}} for zone in zones}
    return {"items": {**items, "zones/us-central1-a": found}, "unreachables": [f"projects/demo/zones/{zone}" for zone in zones]}


NETWORK = {"name": "bakehouse", "autoCreateSubnetworks": True, "subnetworks": [f"{BASE}regions/us-central1/subnetworks/bakehouse"]}


@dataclass(eq=False)
class Stub(BaseAdapter):
    """Answers by `METHOD path` (the path behind the project): a list is used up one by one, the last one for all that follow."""

    replies: dict[str, Reply | list[Reply]]
    asked: list[str] = field(default_factory=list)
    bodies: dict[str, Any] = field(default_factory=dict)
    queries: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    now_s: float = NOW_S
    endpoint: str = "http://127.0.0.1:9"

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        url = urlsplit(str(request.url))
        key = f"{request.method} {url.path.removeprefix('/compute/v1/projects/demo/')}"
        self.asked.append(key)
        self.bodies[key] = json.loads(request.body) if request.body else None
        self.queries[key] = parse_qs(url.query)
        assert key in self.replies, key
        found = self.replies[key]
        reply = found if not isinstance(found, list) else found.pop(0) if len(found) > 1 else found[0]
        reply = reply() if callable(reply) else reply
        answer = reply if isinstance(reply, Answer) else Answer(200, json.dumps({"kind": "compute#any", **reply}).encode())
        return answer.response(request)

    def close(self) -> None:
        """Hold nothing open."""

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def clock(self) -> float:
        return self.now_s

    def cloud(self, folder: Path, **settings: str) -> GoogleCloud:
        """Return the driver over this transport; its clock is moved by its sleeping alone."""
        where = places({"project": "demo", "source": "203.0.113.7", **settings})
        client = Client("demo", self.endpoint, adapter=self, sleep=self.sleep, clock=self.clock)
        return GoogleCloud(client, where, Images(client, where.region, folder / "bases.json"))
