"""The state that all methods work on, and the table of the methods that are served."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tests.servers.engine import Clock, Engine, timestamp
from tests.servers.gce.catalog import PUBLIC_IMAGES, REGIONS, ZONES, seed
from tests.servers.gce.errors import ApiError, Json, backend_error, forbidden, invalid, not_found
from tests.servers.gce.operations import Operations, Work
from tests.servers.gce.schema import Call
from tests.servers.gce.store import Store
from tests.servers.gce.switches import Switches
from tests.servers.vm import Vms

QUOTAS: Mapping[str, float] = {
    "CPUS": 24,
    "INSTANCES": 24,
    "SSD_TOTAL_GB": 500,
    "DISKS_TOTAL_GB": 4096,
    "STATIC_ADDRESSES": 8,
    "IN_USE_ADDRESSES": 8,
}

Handler = Callable[["Cloud", Call], Json]
HANDLERS: dict[str, Handler] = {}


def serves(*method_ids: str) -> Callable[[Handler], Handler]:
    """Enter a function into the table."""

    def enter(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(method_ids, handler))
        return handler

    return enter


class Cloud:
    """One project of a cloud; whoever touches it holds `lock`."""

    def __init__(
        self,
        project: str,
        vms: Vms,
        *,
        operation_s: float,
        quotas: Mapping[str, float],
        addresses: Iterator[str],
        clock: Clock = time.time,
    ) -> None:
        self.project, self.vms = project, vms
        self.switches = Switches()
        self.lock = threading.RLock()
        self.engine = Engine(clock)
        self.store = Store()
        self.operations = Operations(self.store, self.engine, operation_s)
        self.quotas = {region: {**QUOTAS, **quotas} for region in REGIONS}
        self.addresses = addresses
        self.returned_addresses: list[str] = []
        self.runs: dict[str, int] = {}
        self.run_numbers = itertools.count(1)
        self.guest_off_at: dict[str, float] = {}
        seed(self.store, project)

    def now_text(self) -> str:
        return timestamp(self.engine.now())

    def handle(self, call: Call) -> Json:
        """Serve one checked request."""
        self._check_place(call)
        if earlier := self.operations.earlier(call):
            return earlier
        handler = HANDLERS.get(call.method.id)
        if not handler:
            raise ApiError(501, "notImplemented", f"{call.method.id} is not served by this test server")
        return handler(self, call)

    def begin(self, call: Call, target: Json, work: Work, **more: Any) -> Json:
        return self.operations.begin(call, target, work, fault=call.operation_fault, **more)

    def next_address(self) -> str:
        """Return an external address that nobody has."""
        found = next(self.addresses, None)
        return found or self.returned_addresses.pop(0)

    def _check_place(self, call: Call) -> None:
        """Refuse other projects, and places that there are not."""
        project = call["project"]
        if project in PUBLIC_IMAGES:
            if call.method.http != "GET" or call.collection not in ("images", "imageFamilyViews"):
                raise forbidden(f"compute.{call.collection}.{_permission(call)}", f"projects/{project}")
        elif project != self.project:
            raise not_found(f"projects/{project}")
        if call.params.get("zone") not in (None, *ZONES) and call.collection != "zones":
            raise invalid("zone", call["zone"], "Unknown zone.")
        if call.params.get("region") not in (None, *REGIONS) and call.collection != "regions":
            raise invalid("region", call["region"], "Unknown region.")
        self.check_reachable(call)

    def check_reachable(self, call: Call) -> None:
        """Fail a request to a zone that is out of reach; that it gets just this error is a guess."""
        if call.params.get("zone") in self.switches.unreachable_zones and call.collection != "zones":
            raise backend_error()


def _permission(call: Call) -> str:
    return {"insert": "create", "patch": "update"}.get(call.verb, call.verb)
