"""The fake cloud as one with reserved addresses and kept disks, whose names are unique in a region or zone only."""

from __future__ import annotations

from collections.abc import Iterator

from clouds.driver import Kind, Resource, State, Ticket
from tests.fake_cloud import FakeCloud
from tests.fake_world import World


class ReservingCloud(FakeCloud):
    """A client of a `World`; `kept` are its addresses and disks."""

    grants = frozenset({"static_ip", "keep_disk"})

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.kept: list[Resource] = []

    def reserve(self, name: str, region: str, state: State = State.READY) -> None:
        """Reserve an address, as a launch does: it has no owner."""
        self.kept.append(Resource(Kind.ADDRESS, name, state, {"project": "bakehouse", "role": "address"}, zone=region))

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        if kind not in (Kind.ADDRESS, Kind.DISK):
            return super().delete(kind, name, zone)
        with self._operation("delete", f"{zone}/{name}"):
            assert zone, "the name alone may mean another one"
            self.kept = [one for one in self.kept if (one.kind, one.name, one.zone) != (kind, name, zone)]
        return Ticket("delete", kind, name)

    def _resources(self) -> Iterator[Resource]:
        yield from super()._resources()
        yield from self.kept
