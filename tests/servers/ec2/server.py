"""The server as tests see it."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from moto.ec2.models import ec2_backends
from moto.ssm.models import ssm_backends

from tests import needed
from tests.servers.ec2 import backend as _backend  # noqa: F401 - registers the class with moto
from tests.servers.ec2 import iam, life, stale, unseen, wire
from tests.servers.ec2.cloud import CLOUDS, Cloud, loopback_addresses
from tests.servers.ec2.errors import ApiError, LateError, NotServed, internal_error
from tests.servers.ec2.faults import POSITIONS, Error, Fault, Hang, Page
from tests.servers.ec2.host import CloudHost
from tests.servers.ec2.http import Ask, Reply, Server
from tests.servers.ec2.inventory import lines
from tests.servers.ec2.responses import StrictResponse
from tests.servers.ec2.serving import ACCESS_KEY, SECRET_KEY, Call, moto_request, other_service, read, refusal
from tests.servers.ec2.switches import Switches
from tests.servers.engine import Clock
from tests.servers.vm import ScriptedVms, Vms

TICK_S = 0.02
_ACCOUNTS = itertools.count(111122223333)


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was served; `status` 0: held without an answer; `code` is that of a refusal."""

    service: str
    action: str
    region: str
    status: int
    code: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)


class Ec2:
    """A running server. Code that reads or changes the state of the cloud takes the lock."""

    def __init__(self, cloud: Cloud, hang_s: float) -> None:
        self.cloud, self.hang_s = cloud, hang_s
        self.latency_s = 0.0
        self.calls: list[Served] = []
        self.crashes: list[str] = []
        self.policy: iam.Policy | None = None
        """What Bakehouse may do; None: everything."""
        self._faults: list[Fault] = []
        self._closing = threading.Event()
        self._server = Server(self.serve_request, self._tick)
        cloud.vms.bind(CloudHost(cloud))

    @property
    def account(self) -> str:
        return self.cloud.account

    @property
    def switches(self) -> Switches:
        return self.cloud.switches

    @property
    def is_closed(self) -> bool:
        return self._closing.is_set()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client_arguments(self, region: str = "us-east-1", *, key: str = ACCESS_KEY) -> dict[str, Any]:
        """Return what a boto3 client needs to reach this server, by default as Bakehouse."""
        keys = {"aws_access_key_id": key, "aws_secret_access_key": SECRET_KEY}
        return {"endpoint_url": self.url, "region_name": region, **keys}

    def inventory(self) -> list[str]:
        """Return everything that is billed or left behind, as `instances us-east-1a/NAME running`.

        The name is the tag `Name`, else the id. Terminated instances, and what each new account has, are left out.
        """
        with self._settled():
            return lines(self.cloud)

    def instance(self, name: str) -> Any:
        """Return moto's object of the instance with that id or name; of several, the newest."""
        with self._settled():
            return self._instance(name)

    def count(self, action: str) -> int:
        """Return how many requests for an action have been served."""
        return sum(action in (call.action, f"{call.service}:{call.action}") for call in self.calls)

    def fault(self, action: str, *, when: str = "before", error: Error, nth: int | None = 1, region: str | None = None) -> None:
        """Let the nth call of an action from now on (each, with None) fail before or after its effect.

        `error` is an ApiError (the answer), a LateError (the resource fails later), a Page (HTML, status 200), a function to
        call, or "hang": no answer, for `hang_s`. With `region`, only calls to that region count.
        Actions of other services have a prefix: `ssm:GetParameter`.
        """
        assert when in POSITIONS, when
        if ":" not in action:
            wire.operation(action)
        with self.cloud.lock:
            self._faults.append(Fault(action, when, error, nth, region))

    def clear_faults(self) -> None:
        with self.cloud.lock:
            self._faults.clear()

    def interrupt(self, name: str) -> None:
        """Take a Spot instance away, after its notice."""
        with self._settled():
            instance = self._instance(name)
            instance.ec2_backend.interrupt(instance)

    def power_off(self, name: str) -> None:
        """Let a guest power itself off."""
        with self._settled():
            instance = self._instance(name)
            self.cloud.vms.stop(instance.id)
            life.ended(instance.ec2_backend, instance)

    def advance(self, seconds: float) -> None:
        """Move the clock of the cloud forward; what falls due meanwhile has happened when this returns."""
        with self.cloud.lock:
            self.cloud.engine.advance(seconds)

    def is_open(self, name: str, port: int, source: str) -> bool:
        """Return whether security groups let an address reach a TCP port of an instance."""
        with self._settled():
            instance = self._instance(name)
            return bool(instance.ec2_backend.is_open(instance, port, source))

    def serial(self, name: str, port: int = 1) -> bytes:
        """Return what is kept of the output of an instance's serial port."""
        with self._settled():
            return self.cloud.vms.serial(self._instance(name).id, port).read(0)[1]

    def metadata(self, name: str) -> Mapping[str, str]:
        """Return what the metadata service of an instance serves; `metadata.MetadataServer` takes it."""
        with self._settled():
            return self.cloud.metadata[self._instance(name).id]

    # Serving

    def serve_request(self, ask: Ask) -> Reply:
        """Serve one request; note it."""
        if self.latency_s:
            self._closing.wait(self.latency_s)
        call, code = Call(ask), ""
        try:
            with self.cloud.lock:
                self.cloud.engine.settle()
                reply = self._handle(call)
        except ApiError as error:
            if isinstance(error, NotServed):
                self.crashes.append(f"{call.name}: {error.message}")
            reply, code = refusal(call.service, error), error.code
        except Page as page:
            reply = Reply(200, page.text.encode(), {"Content-Type": "text/html; charset=UTF-8"})
        except Hang:
            self._note(call, 0, "")
            self._closing.wait(self.hang_s)
            raise
        except Exception:
            self.crashes.append(f"{call.name} {call.params}\n{traceback.format_exc()}")
            reply, code = refusal(call.service, internal_error()), "InternalError"
        self._note(call, reply.status, code)
        return reply

    def _note(self, call: Call, status: int, code: str) -> None:
        self.calls.append(Served(call.service, call.action, call.region, status, code, call.params))

    def _handle(self, call: Call) -> Reply:
        """Check and serve; the faults that are due strike before and after."""
        read(call)
        tree = wire.check(call.action, call.params) if call.service == "ec2" else {}
        if call.is_ours:
            wanted = iam.needs(call, tree, ec2_backends[self.cloud.account][call.region])
            needed.note(need.action for need in wanted)
            if self.policy:
                iam.check(self.policy, call, wanted)
        due = [fault for fault in self._faults if fault.is_due(call.name, call.region)]
        for fault in due:
            if fault.when == "before":
                fault.strike()
        late = [fault.error for fault in due if isinstance(fault.error, LateError)]
        self.cloud.late = late[0] if late else None
        reply = self._ec2(call, tree) if call.service == "ec2" else other_service(call, self.cloud)
        assert self.cloud.late is None, f"{call.action} makes nothing that can fail late"
        for fault in due:
            if fault.when == "after":
                fault.strike()
        return reply

    def _ec2(self, call: Call, tree: dict[str, Any]) -> Reply:
        backend = ec2_backends[self.cloud.account][call.region]
        before = set(unseen.things(backend)) if self.switches.unseen_calls or self.switches.untagged_calls else set()
        with unseen.lagging(self.cloud, backend, call.action, tree), stale.states(self.cloud, backend, call.action):
            response = StrictResponse()
            response.tree, response.action = tree, call.action
            status, _, body = response._dispatch(moto_request(call, self.cloud.account))
        unseen.note_new(self.cloud, backend, before)
        request_id = str(uuid.uuid4())
        return Reply(int(status), str(body).replace("request-id", request_id, 1).encode(), {"x-amzn-RequestId": request_id})

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

    def _instance(self, name: str) -> Any:
        found = [one for region in self.cloud.regions() for one in region.all_instances()]
        named = [one for one in found if name in (one.id, one.ec2_backend.tags.get(one.id, {}).get("Name"))]
        assert named, f"no instance {name} in {[one.id for one in found]}"
        return named[-1]

    @contextmanager
    def running(self) -> Iterator[Ec2]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": TICK_S}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self.cloud.vms.close()


@contextmanager
def serve(
    *,
    vms: Vms | None = None,
    state_s: float = 0.02,
    image_s: float = 0.02,
    hang_s: float = 30.0,
    default_vpc: bool = True,
    addresses: Iterator[str] | None = None,
    clock: Clock = time.time,
) -> Iterator[Ec2]:
    """Run a server, which is one account of its own, until the block ends.

    `state_s` is how long each change of state takes, `image_s` an image or snapshot. `addresses` are given to instances (by default
    loopback addresses). `clock` returns seconds since the epoch; with one that stands still, only `advance` moves the time.
    """
    account = str(next(_ACCOUNTS))
    cloud = Cloud(account, vms or ScriptedVms(), state_s=state_s, image_s=image_s, clock=clock)
    cloud.has_default_vpc = default_vpc
    ec2 = Ec2(cloud, hang_s)
    cloud.addresses = addresses or loopback_addresses(ec2.port)
    with ExitStack() as stack:
        CLOUDS[account] = cloud
        stack.callback(CLOUDS.pop, account)
        for backends in (ec2_backends, ssm_backends):
            stack.callback(backends.pop, account, None)
        yield stack.enter_context(ec2.running())
