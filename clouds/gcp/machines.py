"""The life of a machine on Compute Engine: asked for, found, stopped, suspended, started, labelled, removed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from clouds.driver import BootSpec, Resource, State
from clouds.errors import CapacityError, CloudError, ConflictError, InvalidError, NotFoundError, QuotaError, ThrottledError
from clouds.gcp import instances, naming, network
from clouds.gcp.calls import Calls
from clouds.gcp.failures import ChangedError, NotReadyError
from clouds.gcp.operations import finish, refer
from clouds.gcp.places import OWN_NETWORK, Places, region_of

GRACE_S = 10.0
"""For how long a machine whose creation was never confirmed is looked for before it counts as absent."""
FRESH_S = 2.0
"""For how long what was read of a machine tells its address and its labels, so that one look at it is one request."""
_LABEL_TRIES = 5


@dataclass(slots=True)
class Machines:
    """The machines of a project, in all its zones."""

    calls: Calls
    places: Places
    _zones: dict[str, str] = field(default_factory=dict)
    _unconfirmed: dict[str, float] = field(default_factory=dict)
    _asked: dict[str, str] = field(default_factory=dict)
    _usable_zones: list[str] = field(default_factory=list)
    _seen: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def create(self, spec: BootSpec) -> str:
        """Ask for a machine with its firewall rules, and return the operations; the same token is the same machine."""
        zone = spec.zone or self.places.zone
        try:
            return refer(self._ask(spec, zone))
        except (NotFoundError, NotReadyError) as error:
            if not self.places.is_own_network or f"networks/{OWN_NETWORK}" not in error.message:
                raise
        network.make_own_network(self.calls, region_of(zone))
        return refer(self._ask(spec, zone))

    def _ask(self, spec: BootSpec, zone: str) -> list[dict[str, Any]]:
        source = network.source_range(self.places, self.calls) if spec.ports else ""
        rules = list(network.rules(spec, self.places, source))
        operations = network.make_rules(self.calls, spec, rules)
        address = spec.wishes.static_ip and network.reserved_address(
            self.calls, spec.wishes.static_ip, region_of(zone), {"project": spec.labels.get("project", ""), "role": "address"}
        )
        tags = [rule["name"] for rule in rules]
        body = instances.body(spec, self.places, zone=zone, tags=tags, address=address)
        return [*operations, *self._insert(spec, zone, body)]

    def _insert(self, spec: BootSpec, zone: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        what, request_id = f"machine {spec.name}", naming.request_id(spec.token, zone)
        self._asked[spec.name] = machine_type = str(body["machineType"])
        try:
            operation = self.calls.change(what, f"zones/{zone}/instances", body, request_id=request_id)
        except ConflictError:
            if naming.from_labels(self.get(spec.name).get("labels", {})).get("token") != spec.labels.get("token", spec.token):
                raise ConflictError(
                    f"machine {spec.name}: the name is taken", next_step="Choose another name, or delete that machine."
                ) from None
            return []
        except (NotFoundError, InvalidError) as error:
            if instances.source_link(spec.source) in error.message and isinstance(error, NotFoundError):
                raise NotFoundError(f"image {spec.source}: there is none", next_step="See: ./inv images --cloud gcp") from error
            if spec.zone and machine_type in error.message:
                raise self._lacks_type(spec.name, zone) from error
            raise
        except (CapacityError, QuotaError) as error:
            if isinstance(error, CapacityError):
                error.zone = zone
            self.explain(spec.name, error)
            raise
        except ThrottledError:
            self._unconfirmed[spec.name] = time.monotonic()
            raise
        self._zones[spec.name] = zone
        return [operation]

    def _lacks_type(self, name: str, zone: str) -> CapacityError:
        """Return the refusal of a zone that we chose, the user's being full, and that does not offer the type of machine."""
        error = CapacityError(f"machine {name}: zone {zone} has no such machine type", zone=zone)
        error.next_step = "Try later, or another --type."
        self.explain(name, error)
        return error

    def explain(self, name: str, error: CapacityError | QuotaError) -> None:
        """Add to the refusal of a machine what Google leaves out: how much was asked for; in which zones there may be room."""
        if isinstance(error, QuotaError):
            error.message += f"; {self._need(name)} was asked for"
        elif not error.zones:
            error.zones = self._other_zones(error.zone)

    def _need(self, name: str) -> str:
        """Return the type that a machine was asked for as, and its processors where they can be found out."""
        machine_type = self._asked[name]
        need = machine_type.rpartition("/")[2]
        with suppress(CloudError):
            need += f" ({self.calls.get(f'machine type {need}', machine_type)['guestCpus']} processors)"
        return need

    def _other_zones(self, zone: str) -> tuple[str, ...]:
        """Return the other zones of a zone's region that are up; they are asked for once, and none are known when that fails."""
        with suppress(CloudError):
            if not self._usable_zones:
                pages = self.calls.pages("zones", "zones", 'status="UP"')
                self._usable_zones = [found["name"] for page in pages for found in page.get("items", ())]
        return tuple(other for other in self._usable_zones if region_of(other) == region_of(zone) and other != zone)

    def get(self, name: str) -> dict[str, Any]:
        """Return an instance. NotFoundError: there is none in any zone."""
        what = f"machine {name}"
        if name in self._zones:
            try:
                return self._see(self.calls.get(what, f"zones/{self._zones[name]}/instances/{name}"))
            except NotFoundError:
                self._forget(name)
        for instance in self._list(f'name="{name}"'):
            return instance
        raise NotFoundError(f"{what}: there is none", next_step="See: ./inv machines --cloud gcp")

    def glance(self, name: str) -> dict[str, Any]:
        """Return an instance as it was read a moment ago, or as it is now. NotFoundError: there is none in any zone."""
        read_at, instance = self._seen.get(name, (0.0, {}))
        return instance if instance and time.monotonic() - read_at < FRESH_S else self.get(name)

    def _see(self, instance: dict[str, Any]) -> dict[str, Any]:
        """Remember where an instance is and what it is like."""
        self._zones[instance["name"]] = instances.zone_of(instance)
        self._seen[instance["name"]] = (time.monotonic(), instance)
        return instance

    def _forget(self, name: str) -> None:
        self._zones.pop(name, None)
        self._seen.pop(name, None)

    def _change(self, instance: Mapping[str, Any], verb: str = "", *, method: str = "POST") -> str:
        """Ask for a change of what an instance does and return the operation."""
        self._seen.pop(instance["name"], None)
        path = instances.path(instance) + (f"/{verb}" if verb else "")
        return refer([self.calls.change(f"machine {instance['name']}", path, method=method)])

    def zone(self, name: str) -> str:
        """Return the zone that a machine is in; one that was looked up once is believed."""
        return self._zones.get(name) or instances.zone_of(self.get(name))

    def find(self, name: str) -> Resource | None:
        """Return a machine, or None."""
        try:
            return instances.resource(self.get(name))
        except NotFoundError:
            return None

    def resources(self, labels: Mapping[str, str]) -> list[Resource]:
        """Return the machines that carry all these labels."""
        return [instances.resource(instance) for instance in self._list(naming.label_filter(labels))]

    def _list(self, expression: str) -> Iterator[dict[str, Any]]:
        for page in self.calls.pages("machines", "aggregated/instances", expression):
            for scope in page.get("items", {}).values():
                yield from map(self._see, scope.get("instances", ()))

    def start(self, name: str, *, deadline_s: int, facts: Mapping[str, str]) -> str:
        """Start a machine that is off, or wake one that is suspended, and return the operation; "" when it is on."""
        instance, what = self.get(name), f"machine {name}"
        if instances.state(instance) is State.SUSPENDED:
            return self._change(instance, "resume")
        if instances.state(instance) is not State.STOPPED:
            return ""
        self._tell(what, instance, facts)
        self._schedule(what, instance, deadline_s)
        return self._change(instance, "start")

    def _tell(self, what: str, instance: Mapping[str, Any], facts: Mapping[str, str]) -> None:
        """Lay facts over those that a machine was told."""
        items = instances.metadata_of(instance)
        known = instances.read_facts(items.get(instances.FACTS, ""))
        if facts.items() <= known.items():
            return
        items[instances.FACTS] = instances.write_facts({**known, **facts})
        metadata = {
            "fingerprint": instance["metadata"]["fingerprint"],
            "items": [{"key": key, "value": value} for key, value in items.items()],
        }
        finish(self.calls, what, self.calls.change(what, f"{instances.path(instance)}/setMetadata", metadata))

    def _schedule(self, what: str, instance: Mapping[str, Any], deadline_s: int) -> None:
        """Give a machine that is off its new deadline."""
        before = dict(instance.get("scheduling", {}))
        after = {
            key: value for key, value in before.items() if key not in ("maxRunDuration", "terminationTimestamp", "terminationTime")
        }
        after |= instances.run_time(deadline_s)
        if deadline_s and "instanceTerminationAction" not in after:
            after |= {"instanceTerminationAction": "STOP", "automaticRestart": False}
        if not deadline_s and after.get("provisioningModel") != "SPOT":
            after.pop("instanceTerminationAction", None)
        if after != before:
            finish(self.calls, what, self.calls.change(what, f"{instances.path(instance)}/setScheduling", after))

    def stop(self, name: str) -> str:
        """Ask for a machine's orderly end and return the operation; "" when it is off."""
        instance = self.get(name)
        if instances.state(instance) in (State.STOPPED, State.SUSPENDED):
            return ""
        return self._change(instance, "stop")

    def suspend(self, name: str) -> str:
        """Ask for a machine to be frozen with its memory and return the operation; "" when it is."""
        instance = self.get(name)
        if instances.state(instance) is State.SUSPENDED:
            return ""
        return self._change(instance, "suspend")

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those of a machine; once more when somebody else changed them meanwhile."""
        what = f"machine {name}"
        for _ in range(_LABEL_TRIES):
            instance = self.glance(name)
            self._seen.pop(name, None)
            wanted = {
                "labels": {**instance.get("labels", {}), **naming.to_labels(labels)},
                "labelFingerprint": instance["labelFingerprint"],
            }
            try:
                operation = self.calls.relabel(what, instances.path(instance), wanted)
                return finish(self.calls, what, operation)
            except ChangedError:
                continue
        raise CloudError(f"{what}: its labels are changed by others all the time", next_step="Try again.")

    def delete(self, name: str) -> str:
        """Ask for the removal of a machine and its firewall rules, and return the operations; what is gone is gone."""
        try:
            instance, operation = self._remove(name)
        except NotFoundError:
            left = [rule["name"] for rule in network.our_rules(self.calls, name)]
            return refer(network.delete_rules(self.calls, left))
        self._unconfirmed.pop(name, None)
        tags = [tag for tag in instance.get("tags", {}).get("items", ()) if naming.machine_of_rule(tag) == name]
        return " ".join([operation, refer(network.delete_rules(self.calls, tags))]).strip()

    def _remove(self, name: str) -> tuple[dict[str, Any], str]:
        """Ask for the removal of an instance where it was seen last, else wherever it is. NotFoundError: it is nowhere."""
        if name in self._seen:
            _, instance = self._seen[name]
            with suppress(NotFoundError):
                return instance, self._change(instance, method="DELETE")
        instance = self.get(name)
        return instance, self._change(instance, method="DELETE")

    def may_still_come(self, name: str) -> bool:
        """Say whether a machine that is absent was asked for so lately, without an answer, that it may yet appear."""
        return time.monotonic() - self._unconfirmed.get(name, -GRACE_S) < GRACE_S

    def require_off(self, name: str) -> dict[str, Any]:
        """Return a machine that is off. InvalidError: it is on."""
        instance = self.get(name)
        if instances.state(instance) is not State.STOPPED:
            raise InvalidError(f"machine {name}: still on", next_step=f"Stop it first: ./inv stop {name}")
        return instance
