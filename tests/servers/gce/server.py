"""The server as tests see it."""

from __future__ import annotations

import itertools
import json
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import tests.servers.gce.resources  # noqa: F401 - fills the table of methods
from tests import needed
from tests.servers.engine import Clock
from tests.servers.gce import iam, masks, projects
from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import ApiError, Json, unparsable
from tests.servers.gce.faults import POSITIONS, Error, Fault, Hang, Page
from tests.servers.gce.host import CloudHost
from tests.servers.gce.http import Reply, Server
from tests.servers.gce.operations import OperationError
from tests.servers.gce.resources import life, networks
from tests.servers.gce.resources.firewalls import is_open
from tests.servers.gce.schema import Call, compute_v1
from tests.servers.gce.store import collection_of, copied, name_of, scope_of
from tests.servers.gce.switches import Switches
from tests.servers.vm import ScriptedVms, Vms

SERVICE_PATH = "/compute/v1/"
TICK_S = 0.02
_BAKEHOUSE = "python-requests/"
"""How the name of the driver's client begins. Those of gcloud, Packer and the tests' own requests do not."""
BILLED = ("instances", "disks", "images", "addresses", "firewalls", "networks", "subnetworks")


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was served: method (`compute.instances.insert`), path, HTTP status (0: held without an answer)."""

    method: str
    path: str
    status: int
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Json = field(default_factory=dict)


class Gce:
    """A running server. Whatever reads or changes the cloud's state takes the lock."""

    def __init__(self, cloud: Cloud, hang_s: float) -> None:
        self.cloud, self.hang_s = cloud, hang_s
        self.latency_s = 0.0
        self.calls: list[Served] = []
        self.crashes: list[str] = []
        self.role: iam.Role | None = None
        """What Bakehouse may do; None: everything."""
        self._faults: list[Fault] = []
        self._closing = threading.Event()
        self._server = Server(self.serve_request, self._tick)
        cloud.vms.bind(CloudHost(cloud))

    @property
    def switches(self) -> Switches:
        return self.cloud.switches

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def inventory(self) -> list[str]:
        """Return everything that there is and would be billed or left, as `instances us-central1-a/NAME RUNNING`.

        What each new project has (the network `default`, its subnetworks and rules) is left out.
        """
        return list(self.things())

    def things(self) -> dict[str, Json]:
        """Return copies of the resources of `inventory`, by its lines; all are of one instant."""
        with self._settled():
            paths = [path for path in sorted(self.cloud.store.things) if collection_of(path) in BILLED]
            own = [path for path in paths if path.startswith(f"projects/{self.cloud.project}/") and not self._is_default(path)]
            return {_line(path, self.cloud.store.things[path]): copied(self.cloud.store.things[path]) for path in own}

    def get(self, path: str) -> Json:
        """Return a copy of the resource at `zones/us-central1-a/instances/NAME`, say; raises ApiError when there is none."""
        with self._settled():
            return copied(self.cloud.store.get(f"projects/{self.cloud.project}/{path}"))

    def instance(self, name: str) -> Json:
        """Return a copy of the instance of that name, in any zone."""
        with self._settled():
            return copied(self._instance(name))

    def count(self, method: str) -> int:
        """Return how many requests for a method have been served."""
        return sum(call.method == method for call in self.calls)

    def fault(self, method: str, *, when: str = "before", error: Error, nth: int | None = 1) -> None:
        """Let the nth call of a method from now on (each, with None) fail before or after its effect.

        `error` is an ApiError (the answer), an OperationError (the operation ends with it; with "before" without
        the effect), a Page (HTML, status 200), a function to call, or "hang": no answer, for `hang_s`.
        """
        assert when in POSITIONS, when
        assert method in compute_v1().ids, method
        with self.cloud.lock:
            self._faults.append(Fault(method, when, error, nth))

    def clear_faults(self) -> None:
        with self.cloud.lock:
            self._faults.clear()

    def withdraw(self, path: str) -> None:
        """No longer offer a machine type or a disk type that no instance has: `zones/us-central1-a/machineTypes/n4-standard-2`."""
        with self._settled():
            self.cloud.store.get(f"projects/{self.cloud.project}/{path}")
            self.cloud.store.remove(f"projects/{self.cloud.project}/{path}")

    def preempt(self, name: str) -> None:
        """Take a running Spot machine away."""
        with self._settled():
            life.preempt(self.cloud, self._instance(name))

    def advance(self, seconds: float) -> None:
        """Move the cloud's clock forward; what falls due meanwhile has happened when this returns."""
        with self.cloud.lock:
            self.cloud.engine.advance(seconds)

    def is_open(self, instance: str, port: int, source: str) -> bool:
        """Return whether the firewall rules let an address reach a TCP port of an instance; False if it does not exist."""
        with self._settled():
            return any(is_open(self.cloud, found, port, source) for found in self._instances(instance))

    def serial(self, instance: str, port: int = 1) -> bytes:
        """Return what is kept of a serial port's output."""
        with self._settled():
            path = self._instance(instance)["selfLink"].split("/compute/v1/")[1]
            return self.cloud.vms.serial(path, port).read(0)[1]

    # Serving

    def serve_request(self, http: str, path: str, query: dict[str, list[str]], data: bytes, agent: str = "") -> Reply:
        """Serve one request; note it."""
        if self.latency_s:
            self._closing.wait(self.latency_s)
        entry: dict[str, Any] = {"method": "", "path": path, "status": 0}
        try:
            reply = self._answer(http, path, query, data, entry, agent)
        except Hang:
            self.calls.append(Served(**entry))
            self._closing.wait(self.hang_s)
            raise
        self.calls.append(Served(**{**entry, "status": reply.status}))
        return reply

    def _answer(self, http: str, path: str, query: dict[str, list[str]], data: bytes, entry: dict[str, Any], agent: str) -> Reply:
        try:
            with self.cloud.lock:
                self.cloud.engine.settle()
                return Reply(200, self._handle(http, path, query, data, entry, agent))
        except ApiError as error:
            if error.code == 501:
                self.crashes.append(error.message)
            return Reply(error.code, error.body(), error.headers)
        except Page as page:
            return Reply(200, page.text)
        except Hang:
            raise
        except Exception:
            self.crashes.append(f"{http} {path}\n{traceback.format_exc()}")
            return Reply(500, ApiError(500, "backendError", "Internal error. See `crashes` of the test server.").body())

    def _handle(self, http: str, path: str, query: dict[str, list[str]], data: bytes, entry: dict[str, Any], agent: str) -> Json:
        """Check and serve; the faults that are due strike before and after."""
        if projects.is_asked(path):
            entry["method"] = projects.METHOD
            return projects.answer(self.cloud, path, _json(data), self.role.permissions() if self.role else None)
        projects.check_enabled(self.cloud, "compute.googleapis.com", "Compute Engine API")
        call = self._call(http, path, query, data, entry)
        if agent.startswith(_BAKEHOUSE):
            wanted = iam.needs(call)
            needed.note(need.permission for need in wanted)
            if self.role:
                self.role.check(wanted)
        due = [fault for fault in self._faults if fault.is_due(call.method.id)]
        for fault in due:
            if fault.when == "before" or isinstance(fault.error, OperationError):
                fault.strike(call)
        answer = copied(self.cloud.handle(call))
        for fault in due:
            if fault.when == "after":
                fault.strike(call)
        mask = call.params.get("fields")
        return masks.apply(mask, answer) if mask else answer

    def _call(self, http: str, path: str, query: dict[str, list[str]], data: bytes, entry: dict[str, Any]) -> Call:
        if not path.startswith(SERVICE_PATH):
            raise ApiError(404, "notFound", f"The requested URL {path} was not found on this server.")
        schema = compute_v1()
        inner = path.removeprefix(SERVICE_PATH)
        method, found = schema.route(http, inner)
        entry["method"] = method.id
        params = schema.check_parameters(method, found, query)
        entry["query"] = params
        given = _json(data) if method.body else {}
        body = schema.check_body(method, given) if method.body else {}
        entry["body"] = body
        return Call(method, inner, params, body, cleared=frozenset(key for key, value in given.items() if value is None))

    def _tick(self) -> None:
        with self.cloud.lock:
            try:
                self.cloud.engine.settle()
            except Exception:
                self.crashes.append(traceback.format_exc())

    @contextmanager
    def _settled(self) -> Iterator[None]:
        with self.cloud.lock:
            self.cloud.engine.settle()
            yield

    def _instances(self, name: str) -> list[Json]:
        return [thing for _, thing in self.cloud.store.everywhere(self.cloud.project, "instances") if thing["name"] == name]

    def _instance(self, name: str) -> Json:
        found = self._instances(name)
        assert len(found) == 1, f"{len(found)} instances of the name {name}"
        return found[0]

    def _is_default(self, path: str) -> bool:
        thing = self.cloud.store.things[path]
        return name_of(path) == "default" or (name_of(path).startswith("default-allow-") and thing.get("priority") == 65534)

    @contextmanager
    def running(self) -> Iterator[Gce]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": TICK_S}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self.cloud.vms.close()


def _json(data: bytes) -> object:
    if not data:
        return {}
    try:
        return json.loads(data)
    except ValueError:
        raise unparsable("Unexpected end of string. Expected a value.") from None


def _line(path: str, thing: Json) -> str:
    scope = scope_of(path).removeprefix("zones/").removeprefix("regions/")
    place = "" if scope == "global" else f"{scope}/"
    return f"{collection_of(path)} {place}{name_of(path)} {thing.get('status', '')}".strip()


def loopback_addresses(port: int) -> Iterator[str]:
    """Yield addresses of this computer for instances; two servers at a time share none."""
    for number in range(1, 250):
        yield f"127.{port >> 8 or 1}.{port & 255}.{number}"


@contextmanager
def serve(
    *,
    project: str = "demo",
    vms: Vms | None = None,
    operation_s: float = 0.02,
    hang_s: float = 30.0,
    quotas: Mapping[str, float] | None = None,
    default_network: bool = True,
    addresses: Iterator[str] | None = None,
    clock: Clock = time.time,
) -> Iterator[Gce]:
    """Run a server until the block ends.

    `operation_s` is how long each operation takes; `quotas` changes those of each region; `addresses` are given to
    instances (by default loopback addresses of their own). `clock` returns seconds since the epoch; with one that
    stands still, only `advance` moves the time.
    """
    given: Iterator[str] = addresses or iter(())
    cloud = Cloud(project, vms or ScriptedVms(), operation_s=operation_s, quotas=quotas or {}, addresses=given, clock=clock)
    if default_network:
        networks.seed(cloud)
    gce = Gce(cloud, hang_s)
    if addresses is None:
        cloud.addresses = itertools.chain(loopback_addresses(gce.port))
    with gce.running():
        yield gce
