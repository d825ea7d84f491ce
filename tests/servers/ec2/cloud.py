"""The state that all of one server share: the clock, the machines, the switches, and what is due."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.servers.ec2.errors import LateError
from tests.servers.ec2.switches import Switches
from tests.servers.engine import Clock, Engine
from tests.servers.vm import Done, VmError, Vms

CONSOLE_BYTES = 64 * 1024


@dataclass(slots=True)
class Console:
    """The console of one instance: the output that was posted, and when. The present output is with the VM."""

    started_at: float = 0.0
    posted: bytes | None = None
    posted_at: float = 0.0


@dataclass(slots=True)
class Token:
    """A request with a client token, and what was answered."""

    params: dict[str, Any]
    reply: Any
    instance_ids: tuple[str, ...] = ()


class Cloud:
    """One account; code that touches it holds `lock`."""

    def __init__(self, account: str, vms: Vms, *, state_s: float, image_s: float, clock: Clock = time.time) -> None:
        self.account, self.vms = account, vms
        self.state_s, self.image_s = state_s, image_s
        self.switches = Switches()
        self.lock = threading.RLock()
        self.engine = Engine(clock)
        self.tokens: dict[tuple[str, ...], Token] = {}
        self.unseen: dict[str, int] = {}
        self.untagged: dict[str, int] = {}
        self.stale: dict[str, Any] = {}
        self.metadata: dict[str, dict[str, str]] = {}
        self.consoles: dict[str, Console] = {}
        self.runs: dict[str, int] = {}
        self.run_numbers = itertools.count(1)
        self.schedules: dict[tuple[str, str], dict[str, Any]] = {}
        self.schedule_tokens: set[tuple[str, ...]] = set()
        self.unsettled: dict[tuple[str, str], float] = {}
        self.parameters: dict[str, dict[str, str]] = {}
        self.addresses: Iterator[str] = iter(())
        self.returned_addresses: list[str] = []
        self.late: LateError | None = None
        self.has_default_vpc = True
        self.backends: dict[str, Any] = {}

    def regions(self) -> list[Any]:
        """Return the backends of the regions that have been asked for."""
        return list(self.backends.values())

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.engine.now(), UTC)

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        self.engine.after(delay_s, action)

    def take_late(self) -> LateError | None:
        """Return the error that a test has ordered for the resource being made now."""
        late, self.late = self.late, None
        return late

    def when_all(self, dones: list[Done], action: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Run the action once all are done, now if they are, or `failed` with what the first raises."""

        def all_done() -> bool:
            states = [done() for done in dones]  # each is asked, so that one that has failed is heard
            return all(states)

        try:
            is_done = all_done()
        except VmError as error:
            failed(error)
            return
        if is_done:
            action()
        else:
            self.engine.once(all_done, action, failed)

    def count_room(self, instance: Any, change: int) -> None:
        """Note that an instance has taken (-1) or freed (1) a place where a test has limited the capacity."""
        place = (instance.instance_type, instance.availability_zone)
        if place in self.switches.capacity:
            self.switches.capacity[place] += change

    def next_address(self) -> str:
        """Return an external address that no instance has."""
        found = next(self.addresses, None)
        return found or self.returned_addresses.pop(0)

    def start_run(self, instance_id: str) -> int:
        """Return the number of the new run of an instance: actions that are due for an older run do nothing."""
        self.runs[instance_id] = next(self.run_numbers)
        return self.runs[instance_id]

    def console(self, instance_id: str) -> Console:
        return self.consoles.setdefault(instance_id, Console())


CLOUDS: dict[str, Cloud] = {}
"""The clouds of the servers that run now, by account number: a backend finds its own here."""


def loopback_addresses(port: int) -> Iterator[str]:
    """Yield addresses of this computer for instances; two servers at a time share none."""
    for number in range(1, 250):
        yield f"127.{port >> 8 or 1}.{port & 255}.{number}"
