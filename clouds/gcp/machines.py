"""The life cycle of a machine on Compute Engine: create, find, stop, suspend, start, label, delete."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clouds.driver import BootSpec, Resource, State
from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    ForeignError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
    machine_exists,
)
from clouds.gcp import instances, naming, network, refusals, rules, sdk, starting, stopping
from clouds.gcp.client import Client
from clouds.gcp.labelling import label_disks, merge_labels
from clouds.gcp.operations import finish, refer
from clouds.gcp.places import OWN_NETWORK, Places, is_ai_zone, region_of
from clouds.gcp.scopes import everywhere
from clouds.incomplete import partly, whole

if TYPE_CHECKING:
    from google.cloud.compute_v1.services.instances import InstancesClient

GRACE_S = 10.0
"""How long to look for a machine whose creation was not confirmed before it counts as absent."""
FRESH_S = 2.0
"""How long a machine's address and labels are cached, so that reading both takes one request."""


@dataclass(slots=True)
class Machines:
    """The machines of a project, in all its zones."""

    client: Client
    places: Places
    _zones: dict[str, str] = field(default_factory=dict)
    _unconfirmed: dict[str, float] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)
    _networked: set[str] = field(default_factory=set)
    _asked: dict[str, str] = field(default_factory=dict)
    _usable_zones: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[float, sdk.compute.Instance]] = field(default_factory=dict)

    @property
    def _service(self) -> InstancesClient:
        return self.client.services.instances

    def create(self, spec: BootSpec) -> str:
        """Request a machine with its firewall rules, and return the operations; the same token means the same machine."""
        zone = spec.zone or self.places.zone
        if self.places.is_own_network and region_of(zone) not in self._networked:
            network.ensure_own_network(self.client, region_of(zone))
            self._networked.add(region_of(zone))
        try:
            return refer(self._ask(spec, zone))
        except (NotFoundError, InvalidError) as error:  # our network may have been deleted
            if not self.places.is_own_network or f"networks/{OWN_NETWORK}" not in error.message:
                raise
        network.ensure_own_network(self.client, region_of(zone))
        return refer(self._ask(spec, zone))

    def _ask(self, spec: BootSpec, zone: str) -> list[sdk.compute.Operation]:
        self._tokens[spec.name] = spec.token
        # A builder that receives files is opened later; whether that is possible is found out now.
        source = network.source_range(self.places, self.client) if spec.ports or spec.receives else ""
        wanted = list(network.rules(spec, self.places, source))
        operations: list[sdk.compute.Operation] = []
        try:  # after an error, the list holds the operations so far
            operations += network.make_rules(self.client, spec.name, spec.token, wanted, lambda: self._is_taken(spec.name, zone))
            tags = [rule.name for rule in wanted] + ([naming.rule_name(spec.name, network.SSH)] if spec.receives else [])
            return [*operations, *self._insert(spec, zone, tags)]
        except ConflictError as error:
            network.delete_made(self.client, spec.name, operations, error)
            raise

    def _is_taken(self, name: str, zone: str) -> bool:
        """Return whether a machine of this name exists: in this zone, or in any other."""
        with suppress(NotFoundError):
            self._read(name, zone)
            return True
        return self.find(name) is not None

    def _insert(self, spec: BootSpec, zone: str, tags: list[str]) -> list[sdk.compute.Operation]:
        address = spec.wishes.static_ip and network.reserved_address(
            self.client, spec.wishes.static_ip, region_of(zone), {"project": spec.labels.get("project", ""), "role": "address"}
        )
        body = instances.body(spec, self.places, zone=zone, tags=tags, address=address)
        what, request_id = f"machine {spec.name!r}", naming.request_id(spec.token, zone)
        self._asked[spec.name] = body.machine_type
        try:
            send = self._service.insert_unary
            operation = self.client.change(what, send, request_id=request_id, zone=zone, instance_resource=body)
        except ConflictError:
            return self._accept_existing(spec, zone)
        except (NotFoundError, InvalidError) as error:
            raise refusals.of_insert(self.client, spec, zone, self._asked[spec.name], error) from error
        except (CapacityError, QuotaError) as error:
            if isinstance(error, CapacityError):
                error.zone = zone
            self.explain(spec.name, error)
            raise
        except (ThrottledError, ForeignError, KeyboardInterrupt):  # the request may have arrived
            self._unconfirmed[spec.name] = time.monotonic()
            raise
        self._zones[spec.name] = zone
        return [operation]

    def _accept_existing(self, spec: BootSpec, zone: str) -> list[sdk.compute.Operation]:
        """Accept an existing machine if it is the requested one (same token). ConflictError: it is another one.

        It is read from the zone that reported the conflict: a list over all zones may omit that zone.
        """
        try:
            there = self._read(spec.name, zone)
        except NotFoundError as error:  # a boot disk has the name of its instance
            raise ConflictError(
                f"machine {spec.name!r}: {zone} has a disk of that name, which an earlier machine may have left",
                next_step=f"Choose another name, or delete the disk: ./inv delete-disk {spec.name}",
            ) from error
        if naming.from_labels(there.labels).get("token") == spec.labels.get("token", spec.token):
            return []
        raise machine_exists(spec.name, "gcp")

    def explain(self, name: str, error: CapacityError | QuotaError) -> None:
        """Complete Google's error about a machine: with the requested machine type, or the zones that may have capacity."""
        if isinstance(error, QuotaError):
            error.message += f"; requested: {self._need(name)}"
        elif not error.zones:
            error.zones = self._other_zones(error.zone)

    def _need(self, name: str) -> str:
        """Return the requested type of a machine, with its number of processors if it can be looked up."""
        _, zone, _, kind = self._asked[name].split("/")
        with suppress(CloudError):
            send = self.client.services.machine_types.get
            return f"{kind} ({self.client.ask(f'machine type {kind!r}', send, zone=zone, machine_type=kind).guest_cpus} processors)"
        return kind

    def _other_zones(self, zone: str) -> tuple[str, ...]:
        """Return the other standard zones of a zone's region that are up; requested once, none if that fails."""
        with suppress(CloudError):
            if not self._usable_zones:
                pages = self.client.pages("zones", self.client.services.zones.list, 'status="UP"')
                self._usable_zones = [found.name for page in pages for found in page.items]
        near = [other for other in self._usable_zones if region_of(other) == region_of(zone) and other != zone]
        return tuple(other for other in near if not is_ai_zone(other))

    def get(self, name: str) -> sdk.compute.Instance:
        """Return an instance; if several zones have one of this name, the one that we created.

        NotFoundError: no zone has it. UnreachableError: a zone that could not be reached may have it.
        """
        what = f"machine {name!r}"
        if name in self._zones:
            try:
                return self._read(name, self._zones[name])
            except NotFoundError:
                self._forget(name)
        found, missing = partly(lambda: self._list(f'name="{name}"'))
        if not found:
            whole(what, (), missing)
            raise NotFoundError(f"{what} not found on gcp", next_step="See: ./inv machines --cloud gcp")
        return self._remember(next(filter(instances.is_ours, found), found[0]))  # names are only unique per zone

    def _read(self, name: str, zone: str) -> sdk.compute.Instance:
        """Return the current state of an instance. NotFoundError: not in this zone."""
        return self._remember(self.client.ask(f"machine {name!r}", self._service.get, zone=zone, instance=name))

    def cached(self, name: str) -> sdk.compute.Instance:
        """Return an instance from the cache (FRESH_S) or from the service. NotFoundError: not in any zone."""
        read_at, instance = self._seen.get(name, (0.0, None))
        return instance if instance and time.monotonic() - read_at < FRESH_S else self.get(name)

    def _remember(self, instance: sdk.compute.Instance) -> sdk.compute.Instance:
        """Cache an instance and its zone."""
        self._zones[instance.name] = instances.zone_of(instance)
        self._seen[instance.name] = (time.monotonic(), instance)
        return instance

    def _forget(self, name: str) -> None:
        self._zones.pop(name, None)
        self._seen.pop(name, None)

    def _change(self, instance: sdk.compute.Instance, send: Callable[..., sdk.compute.Operation]) -> str:
        """Request a change of an instance's state and return the operation."""
        self._seen.pop(instance.name, None)
        return refer([self.client.change(f"machine {instance.name!r}", send, **instances.place(instance))])

    def zone(self, name: str) -> str:
        """Return the zone of a machine, looked up once."""
        return self._zones.get(name) or instances.zone_of(self.get(name))

    def find(self, name: str) -> Resource | None:
        """Return a machine, or None."""
        try:
            return instances.resource(self.get(name))
        except NotFoundError:
            return None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the machines with all these labels."""
        found, missing = partly(lambda: self._list(naming.label_filter(labels)))
        return whole("machines of gcp", map(instances.resource, found), missing)

    def _list(self, expression: str) -> list[sdk.compute.Instance]:
        found, missing = partly(lambda: everywhere(self.client, "instances", expression))
        return whole("machines of gcp", map(self._remember, found), missing)

    def start(self, name: str, *, deadline_s: int, facts: Mapping[str, str]) -> str:
        """Start a stopped machine, or resume a suspended one, and return the operation; "" if it is running.

        The run time of a suspended machine cannot be changed (`run_time_s`); new facts take effect when its guest restarts. That
        setMetadata accepts a suspended instance is a guess: its description in the discovery document names no state.
        """
        instance = self.get(name)
        if instances.state(instance) is State.SUSPENDED:
            starting.tell(self.client, instance, facts)
            return self._change(instance, self._service.resume_unary)
        if instances.state(instance) is not State.STOPPED:
            return ""
        starting.tell(self.client, instance, facts)
        starting.set_deadline(self.client, instance, deadline_s)
        return self._change(instance, self._service.start_unary)

    def run_time_s(self, name: str) -> float | None:
        """Return how long a machine may run, in seconds from each start or resume; None: no limit.

        A suspension clears the termination time, and a resume sets it again from the same maxRunDuration
        (cloud.google.com/compute/docs/instances/limit-vm-runtime). It can only be changed while the instance is TERMINATED:
        instances.setScheduling, discovery document of compute v1.
        """
        return float(self.get(name).scheduling.max_run_duration.seconds) or None

    def stop(self, name: str) -> str:
        """Request a normal shutdown and return the operation; "" if the machine is off. CloudError: it is or stays suspended."""
        instance = self.get(name)
        if instances.state(instance) is State.STOPPED:
            return ""
        self._seen.pop(name, None)
        stopping.leave_suspension(self.client, instance)
        return self._change(instance, self._service.stop_unary)

    def suspend(self, name: str) -> str:
        """Request the suspension of a machine and return the operation; "" if it is suspended."""
        instance = self.get(name)
        if instances.state(instance) is State.SUSPENDED:
            return ""
        return self._change(instance, self._service.suspend_unary)

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of a machine and of its disk."""
        what, place = f"machine {name!r}", instances.place(self.cached(name))

        def read() -> sdk.compute.Instance:
            instance = self.cached(name)
            self._seen.pop(name, None)
            return instance

        def set_labels(fields: dict[str, object]) -> sdk.compute.Operation:
            return self.client.relabel(what, self._service.set_labels_unary, **place, instances_set_labels_request_resource=fields)

        instance, _ = merge_labels(self.client, what, set_labels, labels, read)
        label_disks(self.client, instance, labels)

    def keep_disk(self, name: str, *, keep: bool) -> None:
        """Set whether Compute Engine deletes the boot disk of a machine with the machine (instances.setDiskAutoDelete)."""
        instance = self.cached(name)
        self._seen.pop(name, None)
        what, send = f"disk of machine {name!r}", self._service.set_disk_auto_delete_unary
        device = next(disk.device_name for disk in instance.disks if disk.boot)
        wanted: dict[str, Any] = {**instances.place(instance), "auto_delete": not keep, "device_name": device}
        finish(self.client, what, self.client.change(what, send, **wanted))

    def delete(self, name: str) -> str:
        """Request the deletion of a machine and its firewall rules, and return the operations.

        If the machine does not exist, only the rules that this process created for it are deleted.
        """
        try:
            instance, operation = self._remove(name)
        except NotFoundError:
            token = self._tokens.get(name)
            left = network.rules_of_token(self.client, name, token) if token else []
            return refer(rules.delete_rules(self.client, left))
        self._unconfirmed.pop(name, None)
        tags = [tag for tag in instance.tags.items if naming.machine_of_rule(tag) == name]
        return " ".join([operation, refer(rules.delete_rules(self.client, tags))]).strip()

    def _remove(self, name: str) -> tuple[sdk.compute.Instance, str]:
        """Request the deletion of an instance in its last known zone, or in any zone. NotFoundError: not in any zone."""
        if name in self._seen:
            _, instance = self._seen[name]
            with suppress(NotFoundError):
                return instance, self._change(instance, self._service.delete_unary)
        instance = self.get(name)
        return instance, self._change(instance, self._service.delete_unary)

    def may_still_appear(self, name: str) -> bool:
        """Return whether an absent machine may still appear: it was requested recently, without an answer."""
        return time.monotonic() - self._unconfirmed.get(name, -GRACE_S) < GRACE_S

    def is_own(self, found: Resource) -> bool:
        """Return whether a machine is the one that this process has requested under this name."""
        return found.labels.get("token") == self._tokens.get(found.name, "")

    def require_off(self, name: str) -> sdk.compute.Instance:
        """Return a stopped machine. InvalidError: it is not stopped."""
        instance = self.get(name)
        if instances.state(instance) is not State.STOPPED:
            raise InvalidError(f"machine {name!r} is still running", next_step=f"Stop it first: ./inv stop {name}")
        return instance
