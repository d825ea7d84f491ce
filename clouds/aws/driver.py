"""The driver of AWS: each operation of the Protocols in driver.py and capabilities.py, by the modules beside it.

Without the setting `scheduler_role` it is no `EndsMachines`: EC2 has no longest run time. The timer in the guest powers it off
at its deadline, and EC2 then stops or terminates the instance (InstanceInitiatedShutdownBehavior). Nor is it a `Suspends`:
hibernation needs an agent in the guest, space for its memory on its disk, and a type that can
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/hibernating-prerequisites.html).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from types import MappingProxyType
from typing import Literal

from clouds.aws import addresses, admission, diagnosis, gpus, instances, leftovers, network, user_data
from clouds.aws.bases import Bases
from clouds.aws.client import Client
from clouds.aws.console import Console
from clouds.aws.groups import Groups
from clouds.aws.images import Images
from clouds.aws.lookup import Lookup
from clouds.aws.machines import Machines
from clouds.aws.network import Subnets
from clouds.aws.places import Places
from clouds.aws.schedules import Schedules
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
from clouds.errors import CloudError, InvalidError, NotFoundError
from clouds.findings import Check, Size
from clouds.gpus import choose
from clouds.names import is_name

_OPERATIONS_S = MappingProxyType({"boot": 300, "start": 300, "stop": 600, "delete": 600, "snapshot": 5400})
"""A guess, but for the image: hashicorp/packer#8415 and #9705 have met images that took an hour."""


class Aws:
    """EC2; see clouds.driver for what each operation promises."""

    name = "aws"
    grants = frozenset(
        {
            "machine_type",
            "gpu",
            "spot",
            "on_preempt",
            "max_price_usd",
            "disk_type",
            "keep_disk",
            "static_ip",
            "no_public_ip",
            "https_port",
        }
    )
    is_remote = True
    images_running_spot: Literal[True] = True
    ends_machines_by = "scheduler_role"
    stopped_costs = "its disk, and a reserved address"

    def __init__(self, client: Client, places: Places, *, slowness: float = 1.0) -> None:
        self._client = client
        self._places = places
        self._bases = Bases(client, places, client.folder)
        self._images = Images(client, places, self._bases)
        self._groups, self._lookup = Groups(client), Lookup(client)
        schedules = Schedules(client, places.scheduler_role)
        self._machines = Machines(client, places, self._images, Subnets(client, places), self._groups, self._lookup, schedules)
        if places.scheduler_role:
            self.ends_machines: Literal[True] = True
        self._consoles: dict[str, Console] = {}
        self._opened: dict[str, set[str]] = {}
        self.slowness = slowness
        self.limits = Limits(
            poll_max_s=10.0,
            operations_s=_OPERATIONS_S,
            unseen_s=client.unseen_s,
            listed_when_done=True,
            poll_s=1.0,
            script_bytes=user_data.SCRIPT_BYTES,
            compresses_script=True,
        )

    @property
    def account(self) -> str:
        """The account's number and the region: another region has other machines and images."""
        return f"{self._client.account}.{self.region()}"

    def region(self) -> str:
        """Return the region of the settings, or of `in_region`."""
        return self._client.region_name

    def regions(self) -> list[str]:
        """Return the regions that are enabled for the account: without AllRegions, others are left out (API_DescribeRegions)."""
        listed = self._client.ask("regions", "describe_regions")["Regions"]
        return sorted(str(one["RegionName"]) for one in listed)

    def in_region(self, region: str) -> Aws:
        """Return the driver of another region, with the same credentials; zone and subnet of the settings are not in it."""
        if region == self._client.region_name:
            return self
        places = replace(self._places, region=region, zone="", subnet="")
        other = Aws(self._client.in_region(region), places, slowness=self.slowness)
        other.name = self.name
        return other

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return the newest image of a base; the one of the last time unless `refresh` asks anew."""
        return self._bases.resolve(base, refresh=refresh)

    def checks(self, largest: Size) -> Mapping[str, Check]:
        """Return what `doctor` checks of the account and its region."""
        return diagnosis.checks(self._client, self._places, largest)

    def check_options(self, wishes: Wishes) -> None:
        """Look up the instance type, the zone and the subnet; what is found serves for the machines, too."""
        self._machines.check(wishes)

    def gpu_type(self, gpu: Gpu, cpus: int, memory_mb: int) -> str:
        """Return the smallest instance type with these GPUs."""
        return choose(gpus.TYPES, gpu, cpus, memory_mb, cloud=self.name).name

    def has_gpu(self, machine_type: str) -> bool:
        """Look up whether an instance type has a GPU."""
        return gpus.has_gpu(self._client, machine_type)

    def boot(self, spec: BootSpec) -> Ticket:
        """Ask for an instance and its security group."""
        return Ticket("boot", Kind.MACHINE, spec.name, self._machines.create(spec))

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        """Start an instance that is off. The guest knows its deadline by its facts; with `scheduler_role` AWS does, too."""
        return Ticket("start", Kind.MACHINE, machine, self._machines.start(machine, facts, deadline_s))

    def stop(self, machine: str) -> Ticket:
        """Stop an instance: the guest is told to shut down."""
        return Ticket("stop", Kind.MACHINE, machine, self._machines.stop(machine))

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        """Make an image of the disks of an instance that is off, or of one of spot capacity, which EC2 shuts down for it."""
        instance = self._machines.require_at_rest(machine)
        is_off = instances.state(instance) is State.STOPPED
        return Ticket("snapshot", Kind.IMAGE, image, self._images.snapshot(instances.id_of(instance), image, labels, is_off=is_off))

    def check(self, ticket: Ticket) -> bool:
        """Return whether the operation of a ticket has ended."""
        first, _, second = ticket.operation.partition(" ")
        if ticket.verb == "delete" and ticket.kind is Kind.MACHINE:
            return self._machines.has_gone(first, second)
        if ticket.verb == "delete" and ticket.kind is Kind.IMAGE:
            return self._images.are_gone(ticket.name, ticket.operation)
        if not ticket.operation:
            return True
        checks: Mapping[str, Callable[[], bool]] = {
            "boot": lambda: self._machines.has_booted(ticket.name, first, second),
            "start": lambda: self._machines.has_started(ticket.name, first, second),
            "stop": lambda: self._machines.has_stopped(ticket.name, first),
            "snapshot": lambda: self._images.is_ready(ticket.name, first),
            "delete": lambda: self._groups.has_gone(first),
        }
        return checks[ticket.verb]()

    def keep_disk(self, machine: str, *, keep: bool) -> None:
        """Let the volume of a machine outlive it, or not."""
        self._machines.keep_disk(machine, keep=keep)

    def was_reclaimed(self, machine: str) -> bool:
        """Return whether AWS has taken the capacity of a machine back."""
        return self._machines.was_reclaimed(machine)

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        """Return what the serial port printed: of the last 64 KiB of a boot; also of a machine that has ended a while ago."""
        instance = self._lookup.last(machine)
        instance_id = instances.id_of(instance)
        answer = self._client.ask_about_new(
            f"machine {machine}: console", "get_console_output", InstanceId=instance_id, Latest=True
        )
        console = self._consoles.setdefault(instance_id, Console())
        console.take(f"{instances.seconds(instance['LaunchTime']):.3f}", answer.get("Output", ""))
        return console.since(since)

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Return one thing, or None."""
        if kind is Kind.MACHINE:
            return self._machines.find(name) if is_name(name) else None
        if kind is Kind.IMAGE:
            return self._images.find(name) if is_name(name) else None
        return next((found for found in self.owned({}, {kind}) if found.name == name), None)

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        """Return all that carries these labels in the region; disks and security groups only where nothing uses them."""
        listers: dict[Kind, Callable[[], list[Resource]]] = {
            Kind.MACHINE: lambda: [instances.resource(one) for one in self._lookup.all(labels)],
            Kind.IMAGE: lambda: self._images.resources(labels),
            Kind.DISK: lambda: leftovers.disks(self._client, labels),
            Kind.RULE: lambda: leftovers.orphan_groups(self._client, labels, self._lookup),
            Kind.ADDRESS: lambda: addresses.resources(self._client, labels),
        }
        found = chain.from_iterable(lister() for kind, lister in listers.items() if kind in kinds)
        return sorted(found, key=lambda resource: resource.created_at)

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of a machine or an image."""
        if kind is Kind.MACHINE:
            self._machines.label(name, labels)
        elif kind is Kind.IMAGE:
            self._images.label(name, labels)
        else:
            raise InvalidError(f"{kind} {name}: only machines and images can be labelled", next_step="See: ./inv machines")

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        """Ask for the removal of a thing; a machine goes with its disk and security group, an image with its snapshots."""
        operation = ""
        if kind is Kind.MACHINE:
            operation = self._machines.delete(name)
        elif kind is Kind.IMAGE:
            operation = self._images.delete(name)
        elif kind is Kind.DISK:
            leftovers.delete_disk(self._client, name)
        elif kind is Kind.ADDRESS:
            addresses.release(self._client, name)
        else:
            operation = name
        return Ticket("delete", kind, name, operation)

    def address(self, machine: str, port: int) -> Endpoint:
        """Return the address of a machine: the public one, or the internal one of a machine without."""
        instance = self._lookup.glance(machine)
        host = instances.address(instance)
        if not host or instances.state(instance) not in (State.RUNNING, State.STARTING):
            raise CloudError(f"machine {machine}: it has no address while it is off", next_step=f"Start it: ./inv start {machine}")
        return Endpoint(host, port)

    def dns_name(self, machine: str) -> str:
        """Return the public DNS name of an instance; "" without a public address, or where its network gives no names.

        docs.aws.amazon.com/vpc/latest/userguide/vpc-dns.html (enableDnsHostnames)
        """
        return str(self._lookup.last(machine).get("PublicDnsName") or "")

    def admit(self, machine: str, source: str = "") -> str:
        """Let `source`, else the address of this computer, reach a machine; return what is new."""
        return admission.admit(self._client, self._lookup.glance(machine), self._places, source)

    def open_ssh(self, machine: str) -> Ticket:
        """Open port 22 of a builder to the caller's address."""
        source = network.source_range(self._places, self._client)
        self._opened.setdefault(machine, set()).add(source)  # before the request, whose answer may be lost
        admission.open_ssh(self._client, self._lookup.get(machine), source)
        return Ticket("open-ssh", Kind.MACHINE, machine)

    def close_ssh(self, machine: str) -> Ticket:
        """Close port 22 of a builder."""
        with suppress(NotFoundError):
            admission.close_ssh(self._client, self._lookup.get(machine), sorted(self._opened.get(machine, ())))
        return Ticket("close-ssh", Kind.MACHINE, machine)
