"""The fake cloud as if it were far away: only SSH answers directly, and it can do what remote clouds can."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path

from clouds.driver import BootSpec, Endpoint, Kind, State, Ticket, Wishes
from clouds.errors import CapacityError, InvalidError
from tests import fake_services
from tests.fake_cloud import SSH_PORT, FakeCloud
from tests.fake_world import World

NOTEBOOK_PORT = 8888
ZONES = ("near-1", "near-2", "near-3")


class SuspendingCloud(FakeCloud):
    """A client of a `World` that can keep the memory of a machine that is off."""

    resume_limit_s: float | None = None
    """For how long it lets one that was suspended run, where it takes no new deadline for it."""

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        found = self.world.machines.get(machine)
        if found is None or found.state is not State.SUSPENDED:
            return super().start(machine, deadline_s=deadline_s, facts=facts)
        with self._operation("start", machine):
            if self.resume_limit_s is None:
                found.spec = replace(found.spec, deadline_s=deadline_s)
            found.facts |= facts
            found.state = State.RUNNING
        return Ticket("start", Kind.MACHINE, machine)

    def resumed_for_s(self, machine: str) -> float | None:
        with self._operation("resumed_for_s", machine):
            self._machine(machine)
            return self.resume_limit_s

    def suspend(self, machine: str) -> Ticket:
        with self._operation("suspend", machine):
            found = self._machine(machine)
            if found.state is not State.RUNNING:
                raise InvalidError(f"machine {machine!r} is {found.state}", next_step=f"Start it first: ./inv start {machine}")
            found.state = State.SUSPENDED
        return Ticket("suspend", Kind.MACHINE, machine)


class RemoteCloud(SuspendingCloud):
    """A client of a `World` that is reached through SSH; `full` holds the zones that have no room."""

    name = "faraway"
    grants = frozenset(field.name for field in fields(Wishes))
    is_remote = True
    stopped_costs = "its disk"

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.full: set[str] = set()

    def boot(self, spec: BootSpec) -> Ticket:
        zone = spec.zone or ZONES[0]
        if zone in self.full:
            raise CapacityError(f"no room in {zone}", zone=zone, zones=ZONES)
        ticket = super().boot(replace(spec, zone=zone))
        if NOTEBOOK_PORT in spec.ports:
            forward = forwards(self.world) / spec.name
            forward.parent.mkdir(parents=True, exist_ok=True)
            forward.write_text(str(super().address(spec.name, NOTEBOOK_PORT).port))
        return ticket

    def address(self, machine: str, port: int) -> Endpoint:
        if port == SSH_PORT:
            with self._operation("address", machine):
                self._machine(machine)
            return fake_services.ssh()
        if port == self._machine(machine).spec.wishes.https_port:
            return super().address(machine, port)
        raise InvalidError(f"port {port} of machine {machine!r} is not open")


def forwards(world: World) -> Path:
    """Return the folder that tells the fake ssh where each machine's notebook really answers."""
    return world.folder / "forwards"
