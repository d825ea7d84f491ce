"""Machines as Compute Engine has them: the body that asks for one, and what is read back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from clouds import names
from clouds.driver import BootSpec, End, Kind, Resource, State
from clouds.errors import InvalidError
from clouds.gcp import naming
from clouds.gcp.machine_types import choose, disk_type
from clouds.gcp.places import Places, region_of

FACTS = "bakehouse-facts"
"""The metadata attribute that tells a machine of itself; templates/machine/facts.sh.j2 reads it."""
SCRIPT = "startup-script"
"""The attribute that Google's guest agent runs as root at each boot."""
LIFETIME_S = (30, 120 * 24 * 3600)
"""How short and how long a limited run time may be (cloud.google.com/compute/docs/instances/limit-vm-runtime)."""

_STATES = {
    "PROVISIONING": State.STARTING,
    "STAGING": State.STARTING,
    "RUNNING": State.RUNNING,
    "REPAIRING": State.RUNNING,
    "STOPPING": State.STOPPING,
    "PENDING_STOP": State.STOPPING,
    "SUSPENDING": State.STOPPING,
    "SUSPENDED": State.SUSPENDED,
    "TERMINATED": State.STOPPED,
    "STOPPED": State.STOPPED,
}


def body(spec: BootSpec, places: Places, *, zone: str, tags: list[str], address: str) -> dict[str, Any]:
    """Return the instance to ask for; `address` is a reserved one, or ""."""
    labels = naming.to_labels(spec.labels)
    machine_type = spec.wishes.machine_type or choose(spec.cpus, spec.memory_mb)
    accounts = [{"email": places.service_account, "scopes": ["https://www.googleapis.com/auth/cloud-platform"]}]
    return {
        "name": spec.name,
        "machineType": f"zones/{zone}/machineTypes/{machine_type}",
        "labels": labels,
        "tags": {"items": tags},
        "disks": [_disk(spec, zone, labels, spec.wishes.disk_type or disk_type(machine_type))],
        "networkInterfaces": [_interface(spec, places, zone, address)],
        "metadata": {"items": _metadata(spec)},
        "scheduling": scheduling(spec),
        "serviceAccounts": accounts if places.service_account else [],
        "shieldedInstanceConfig": {"enableSecureBoot": True, "enableVtpm": True, "enableIntegrityMonitoring": True},
    }


def _disk(spec: BootSpec, zone: str, labels: Mapping[str, str], kind: str) -> dict[str, Any]:
    parameters = {"sourceImage": source_link(spec.source), "diskSizeGb": str(spec.disk_gb), "labels": dict(labels)}
    if kind:
        parameters["diskType"] = f"zones/{zone}/diskTypes/{kind}"
    return {"boot": True, "autoDelete": True, "initializeParams": parameters}


def source_link(source: str) -> str:
    """Return where a disk comes from: a base by its path, or an image of ours by its name."""
    return source if source.startswith("projects/") else f"global/images/{naming.image_name(source)}"


def _interface(spec: BootSpec, places: Places, zone: str, address: str) -> dict[str, Any]:
    interface: dict[str, Any] = {"network": f"global/networks/{places.network}"}
    if places.subnet:
        interface["subnetwork"] = f"regions/{region_of(zone)}/subnetworks/{places.subnet}"
    if not spec.wishes.no_public_ip:
        access = {"type": "ONE_TO_ONE_NAT", "name": "External NAT"}
        interface["accessConfigs"] = [access | ({"natIP": address} if address else {})]
    return interface


def _metadata(spec: BootSpec) -> list[dict[str, str]]:
    items = {"block-project-ssh-keys": "TRUE", "enable-oslogin": "FALSE"}
    if spec.script:
        items[SCRIPT] = spec.script
    if spec.facts:
        items[FACTS] = write_facts(spec.facts)
    return [{"key": key, "value": value} for key, value in items.items()]


def scheduling(spec: BootSpec) -> dict[str, Any]:
    """Return how a machine ends: at its deadline, and when spot capacity is taken back (there is one action for both)."""
    spot = {"provisioningModel": "SPOT", "onHostMaintenance": "TERMINATE", "automaticRestart": False}
    ends = {spec.at_deadline} if spec.deadline_s else set()
    ends |= {spec.wishes.on_preempt} if spec.wishes.spot else set()
    wanted: dict[str, Any] = spot if spec.wishes.spot else {"provisioningModel": "STANDARD", "automaticRestart": not ends}
    if ends:
        wanted["instanceTerminationAction"] = (End.DELETE if End.DELETE in ends else End.STOP).upper()
    return wanted | run_time(spec.deadline_s)


def run_time(deadline_s: int) -> dict[str, Any]:
    """Return the part of a schedule that limits the run time. InvalidError: longer than Compute Engine allows."""
    least_s, most_s = LIFETIME_S
    if deadline_s > most_s:
        raise InvalidError(
            f"a lifetime of {deadline_s / 3600:.0f} h: Compute Engine limits it to {most_s // 3600} h",
            next_step=f"Give --lifetime-h {most_s // 3600 - 1} or less, or 0 for no limit.",
        )
    return {"maxRunDuration": {"seconds": str(max(deadline_s, least_s))}} if deadline_s else {}


def write_facts(facts: Mapping[str, str]) -> str:
    """Return facts as the guest reads them: lines that a shell can source."""
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items())


def read_facts(text: str) -> dict[str, str]:
    """Return the facts in such lines."""
    words = (shlex.split(line)[0] for line in text.splitlines() if line)
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def metadata_of(instance: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an instance."""
    return {item["key"]: item.get("value", "") for item in instance.get("metadata", {}).get("items", ())}


def zone_of(thing: Mapping[str, Any]) -> str:
    """Return the zone that an instance or disk is in."""
    return str(thing["zone"]).rpartition("/")[2]


def is_ours(instance: Mapping[str, Any]) -> bool:
    """Say whether Bakehouse made an instance."""
    return naming.from_labels(instance.get("labels", {})).get("project") == names.PROJECT


def path(instance: Mapping[str, Any]) -> str:
    """Return the part of an instance's URL behind the project."""
    return f"zones/{zone_of(instance)}/instances/{instance['name']}"


def state(instance: Mapping[str, Any]) -> State:
    """Return what an instance does now."""
    return _STATES.get(instance.get("status", ""), State.STARTING)


def resource(instance: Mapping[str, Any]) -> Resource:
    """Return an instance as everybody else knows it."""
    size_gb = sum(int(disk.get("diskSizeGb", 0)) for disk in instance.get("disks", ()))
    return Resource(
        kind=Kind.MACHINE,
        name=instance["name"],
        state=state(instance),
        labels=naming.from_labels(instance.get("labels", {})),
        created_at=seconds(instance.get("creationTimestamp", "")),
        size_bytes=size_gb * 2**30,
        zone=zone_of(instance),
    )


def seconds(timestamp: str) -> float:
    """Return a time as Google writes it (RFC 3339) in seconds since the epoch; 0 for none."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
