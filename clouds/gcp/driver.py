"""The driver of Google Cloud: the Protocols of clouds/driver.py and clouds/capabilities.py, by means of its sibling modules."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from itertools import chain
from types import MappingProxyType
from typing import Literal

from clouds.driver import (
    EVERY_KIND,
    START,
    Base,
    BaseImage,
    BootSpec,
    ConsoleText,
    Endpoint,
    Gpu,
    Kind,
    Limits,
    Position,
    Resource,
    State,
    Tell,
    Ticket,
    Wishes,
)
from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    ForeignError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
)
from clouds.findings import Check, Size
from clouds.gcp import admission, diagnosis, gpus, instances, machine_types, machines, operations, rules
from clouds.gcp.client import Client
from clouds.gcp.failures import NotReadyError
from clouds.gcp.images import Images
from clouds.gcp.leftovers import addresses, disks, orphan_rules
from clouds.gcp.machines import Machines
from clouds.gcp.places import Places
from clouds.gpus import choose
from clouds.incomplete import partly, whole
from clouds.names import is_name


class GoogleCloud:
    """Compute Engine; see clouds.driver for what each operation promises."""

    name = "gcp"
    grants = frozenset(
        {"machine_type", "gpu", "spot", "on_preempt", "disk_type", "keep_disk", "static_ip", "no_public_ip", "https_port"}
    )
    limits = Limits(
        poll_max_s=5.0,
        operations_s=MappingProxyType(
            {
                "boot": 300,
                "start": 300,
                "stop": 300,
                "suspend": 600,
                "delete": 300,
                "snapshot": 1800,
                "open-ssh": 120,
                "close-ssh": 120,
            }
        ),
        script_bytes=256 * 1024,  # of a value of metadata: cloud.google.com/compute/docs/metadata/setting-custom-metadata
    )
    """A guest has 120 s to shut down before it is powered off, even on deletion (Scheduling.skipGuestOsShutdown in the discovery
    document of compute v1). The margin on top of that and the other figures are guesses."""
    ends_machines: Literal[True] = True
    is_remote = True
    stopped_costs = "its disk, and a reserved address, which costs more than while the machine runs"

    def __init__(self, client: Client, places: Places, images: Images, *, slowness: float = 1.0) -> None:
        self._client = client
        self._places = places
        self._images = images
        self._machines = Machines(client, places)
        self._unconfirmed: dict[str, tuple[float, str]] = {}
        self.slowness = slowness

    @property
    def account(self) -> str:
        """The project."""
        return self._places.project

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return the image of the base's family that was newest at the last refresh; `refresh` looks it up again."""
        return self._images.resolve(base, refresh=refresh)

    def checks(self, largest: Size) -> Mapping[str, Check]:
        """Return what `doctor` checks of the project."""
        return diagnosis.checks(self._client, self._places, largest)

    def check_options(self, wishes: Wishes) -> None:
        """Check the machine type; one request if the user names one."""
        if wishes.machine_type:
            machine_types.check(self._client, wishes.machine_type)

    def gpu_type(self, gpu: Gpu, cpus: int, memory_mb: int) -> str:
        """Return the smallest machine type that has these GPUs, or to which they can be attached."""
        return choose(gpus.TYPES, gpu, cpus, memory_mb, cloud=self.name).name

    def has_gpu(self, machine_type: str) -> bool:
        """Look up whether a machine type has GPUs of its own."""
        return gpus.has_gpu(self._client, machine_type)

    def boot(self, spec: BootSpec) -> Ticket:
        """Request an instance and its firewall rules."""
        return Ticket("boot", Kind.MACHINE, spec.name, self._machines.create(spec))

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        """Start a stopped instance, or resume a suspended one."""
        return Ticket("start", Kind.MACHINE, machine, self._machines.start(machine, deadline_s=deadline_s, facts=facts))

    def stop(self, machine: str) -> Ticket:
        """Stop an instance, with a normal shutdown of the guest."""
        return Ticket("stop", Kind.MACHINE, machine, self._machines.stop(machine))

    def keep_disk(self, machine: str, *, keep: bool) -> None:
        """Let the boot disk of an instance outlive it, or not."""
        self._machines.keep_disk(machine, keep=keep)

    def suspend(self, machine: str) -> Ticket:
        """Suspend an instance."""
        return Ticket("suspend", Kind.MACHINE, machine, self._machines.suspend(machine))

    def resumed_for_s(self, machine: str) -> float | None:
        """Return an instance's limit of run time: it restarts on resume, and cannot be changed until the instance is stopped."""
        return self._machines.run_time_s(machine)

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        """Create an image from the boot disk of a stopped instance."""
        instance = self._machines.require_off(machine)
        try:
            return Ticket("snapshot", Kind.IMAGE, image, self._images.snapshot(instance, image, labels))
        except (ThrottledError, ForeignError, KeyboardInterrupt):  # the request may have arrived
            self._unconfirmed[image] = (time.monotonic(), labels.get("bake", ""))
            raise

    def check(self, ticket: Ticket) -> bool:
        """Return whether all operations of a ticket have ended."""
        try:
            if not operations.have_ended(self._client, f"{ticket.kind} {ticket.name!r}", ticket.operation):
                return False
        except (CapacityError, QuotaError) as error:
            if ticket.verb == "boot":
                self._machines.explain(ticket.name, error)
            raise
        gone = {Kind.MACHINE: self._is_gone, Kind.IMAGE: self._image_is_gone}
        return ticket.verb != "delete" or ticket.kind not in gone or gone[ticket.kind](ticket.name)

    def _is_gone(self, machine: str) -> bool:
        """Return whether a machine is gone for good; delete one that appears late, after a request without an answer."""
        if not self._machines.may_still_appear(machine):
            return True
        found = self._machines.find(machine)
        if found and self._machines.is_own(found):
            operations.have_ended(self._client, f"machine {machine!r}", self._machines.delete(machine))
        return False

    def _image_is_gone(self, image: str) -> bool:
        """Return the same for an image; one of this name from another bake stays."""
        asked_at, bake = self._unconfirmed.get(image, (-machines.GRACE_S, ""))
        if time.monotonic() - asked_at >= machines.GRACE_S:
            return True
        found = self._images.find(image)
        if found and found.labels.get("bake") == bake:
            del self._unconfirmed[image]
            operations.have_ended(self._client, f"image {image!r}", self._images.delete(image))
        return False

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        """Return the output of serial port 1; positions count bytes. Google keeps the last MiB, and none of a stopped machine."""
        send, zone, offset = self._client.services.instances.get_serial_port_output, self._machines.zone(machine), int(since or 0)
        try:
            output = self._client.ask(f"console of machine {machine!r}", send, zone=zone, instance=machine, start=offset, port=1)
        except NotReadyError:
            return ConsoleText("", since)
        began = output.start if "start" in output else offset
        position = Position(str(output.next_)) if "next_" in output else since
        return ConsoleText(output.contents, position, lost=began > offset)

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Return one resource, or None."""
        if kind is Kind.MACHINE:
            return self._machines.find(name) if is_name(name) else None
        if kind is Kind.IMAGE:
            return self._images.find(name) if is_name(name) else None
        found, missing = partly(lambda: self.owned({}, {kind}))
        if named := [one for one in found if one.name == name]:
            return named[0]
        whole(f"{kind} {name!r}", (), missing)
        return None

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        """Return the resources with all these labels, in every zone; disks and rules only if their machine is gone.

        UnreachableError: a zone could not be reached; the error carries the results of the others.
        """
        listers: dict[Kind, Callable[[], list[Resource]]] = {
            Kind.MACHINE: lambda: self._machines.resources(labels),
            Kind.IMAGE: lambda: self._images.resources(labels),
            Kind.DISK: lambda: disks(self._client, labels),
            Kind.RULE: lambda: orphan_rules(self._client, labels, self._machines),
            Kind.ADDRESS: lambda: addresses(self._client, labels),
        }
        asked = [partly(lister) for kind, lister in listers.items() if kind in kinds]
        found = chain.from_iterable(resources for resources, _ in asked)
        missing = {scope for _, scopes in asked for scope in scopes}
        return whole("resources of gcp", sorted(found, key=lambda resource: resource.created_at), missing)

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of a machine or an image."""
        if kind is Kind.MACHINE:
            self._machines.label(name, labels)
        elif kind is Kind.IMAGE:
            self._images.label(name, labels)
        else:
            raise InvalidError(f"cannot label {kind} {name!r}: not a machine or an image", next_step="See: ./inv machines")

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        """Request the deletion of a resource; a machine is deleted with its disk and firewall rules."""
        if kind is Kind.MACHINE:
            operation = self._machines.delete(name)
        elif kind is Kind.IMAGE:
            operation = self._images.delete(name)
        elif kind is Kind.RULE:
            operation = operations.refer(rules.delete_rules(self._client, [name]))
        else:
            operation = self._delete_zonal(kind, name, zone or self._only_zone(kind, name))
        return Ticket("delete", kind, name, operation)

    def _only_zone(self, kind: Kind, name: str) -> str:
        """Return the zone of an unused disk, or the region of an address; "" if it does not exist.

        Their names are unique only there. ConflictError: several have this name.
        """
        found, missing = partly(lambda: self.owned({}, {kind}))
        zones = sorted({one.zone for one in found if one.name == name})
        if len(zones) > 1:
            raise ConflictError(f"{kind} {name!r}: there is one in each of {', '.join(zones)}", next_step="Name its zone, too.")
        whole(f"{kind} {name!r}", (), () if zones else missing)
        return zones[0] if zones else ""

    def _delete_zonal(self, kind: Kind, name: str, zone: str) -> str:
        """Request the deletion of a disk in a zone, or of an address in a region; "" for one that does not exist."""
        if not zone:
            return ""
        what, services = f"{kind} {name!r}", self._client.services
        try:
            if kind is Kind.DISK:
                operation = self._client.change(what, services.disks.delete_unary, zone=zone, disk=name)
            else:
                operation = self._client.change(what, services.addresses.delete_unary, region=zone, address=name)
            return operations.refer([operation])
        except NotFoundError:
            return ""

    def address(self, machine: str, port: int) -> Endpoint:
        """Return the public address of a machine, or its internal one if it has none."""
        instance = self._machines.cached(machine)
        interfaces = instance.network_interfaces[:1]
        public = next((access.nat_i_p for interface in interfaces for access in interface.access_configs), "")
        host = public or next((interface.network_i_p for interface in interfaces), "")
        if not host or instances.state(instance) not in (State.RUNNING, State.STARTING):
            raise CloudError(f"machine {machine!r} has no address: it is not running", next_step=f"Start it: ./inv start {machine}")
        return Endpoint(host, port)

    def admit(self, machine: str, source: str = "") -> str:
        """Admit `source`, by default the address of this computer, to a machine; return what changed."""
        return admission.admit(self._client, self._machines.cached(machine), self._places, source)

    def open_ssh(self, machine: str) -> Ticket:
        """Let the address of this computer, or the one in the settings, reach the SSH server of a builder."""
        made = admission.open_ssh(self._client, self._machines.cached(machine), self._places)
        return Ticket("open-ssh", Kind.MACHINE, machine, operations.refer(made))

    def close_ssh(self, machine: str) -> Ticket:
        """Remove the rule that lets anybody reach it."""
        return Ticket("close-ssh", Kind.MACHINE, machine, operations.refer(admission.close_ssh(self._client, machine)))
