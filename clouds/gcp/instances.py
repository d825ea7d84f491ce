"""Machines as Compute Engine instances: build the request for one, and read instances back."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from clouds import names
from clouds.driver import BootSpec, End, Kind, Resource, State
from clouds.errors import InvalidError
from clouds.gcp import gpus, naming, sdk
from clouds.gcp.machine_types import choose, disk_type
from clouds.gcp.places import Places, region_of

FACTS = "bakehouse-facts"
"""The metadata attribute with a machine's facts; templates/clouds/gcp.sh.j2 reads it."""
SCRIPT = "startup-script"
"""The attribute that Google's guest agent runs as root at each boot."""
LIFETIME_S = (30, 120 * 24 * 3600)
"""Minimum and maximum of a limited run time (cloud.google.com/compute/docs/instances/limit-vm-runtime)."""

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


class Zoned(Protocol):
    """A resource in a zone."""

    zone: str


def body(spec: BootSpec, places: Places, *, zone: str, tags: list[str], address: str) -> sdk.compute.Instance:
    """Return the body of a request for an instance; `address` is a reserved one, or "".

    A machine with GPUs has no Secure Boot, since DKMS signs NVIDIA's driver with a key of the image (NVIDIA/gpu-operator#1142).
    """
    labels = naming.to_labels(spec.labels)
    machine_type = spec.wishes.machine_type or choose(spec.cpus, spec.memory_mb)
    account = sdk.compute.ServiceAccount(email=places.service_account, scopes=["https://www.googleapis.com/auth/cloud-platform"])
    return sdk.compute.Instance(
        name=spec.name,
        machine_type=f"zones/{zone}/machineTypes/{machine_type}",
        labels=labels,
        tags=sdk.compute.Tags(items=tags),
        disks=[_disk(spec, zone, labels, spec.wishes.disk_type or disk_type(machine_type))],
        network_interfaces=[_interface(spec, places, zone, address)],
        metadata=sdk.compute.Metadata(items=metadata_items(_metadata(spec))),
        scheduling=scheduling(spec),
        guest_accelerators=gpus.attached(spec.wishes, zone),
        service_accounts=[account] if places.service_account else [],
        shielded_instance_config=sdk.compute.ShieldedInstanceConfig(
            enable_secure_boot=not gpus.is_bound_to_host(spec.wishes), enable_vtpm=True, enable_integrity_monitoring=True
        ),
    )


def _disk(spec: BootSpec, zone: str, labels: Mapping[str, str], kind: str) -> sdk.compute.AttachedDisk:
    parameters = sdk.compute.AttachedDiskInitializeParams(
        source_image=source_link(spec.source), disk_size_gb=spec.disk_gb, labels=dict(labels)
    )
    if kind:
        parameters.disk_type = f"zones/{zone}/diskTypes/{kind}"
    return sdk.compute.AttachedDisk(boot=True, auto_delete=True, initialize_params=parameters)


def source_link(source: str) -> str:
    """Return the source image of a disk: the path of a base, or of an image of ours by name."""
    return source if source.startswith("projects/") else f"global/images/{naming.image_name(source)}"


def _interface(spec: BootSpec, places: Places, zone: str, address: str) -> sdk.compute.NetworkInterface:
    interface = sdk.compute.NetworkInterface(network=f"global/networks/{places.network}")
    if places.subnet:
        interface.subnetwork = f"regions/{region_of(zone)}/subnetworks/{places.subnet}"
    if not spec.wishes.no_public_ip:
        access = sdk.compute.AccessConfig(type_="ONE_TO_ONE_NAT", name="External NAT")
        if address:
            access.nat_i_p = address
        interface.access_configs = [access]
    return interface


def _metadata(spec: BootSpec) -> dict[str, str]:
    items = {"block-project-ssh-keys": "TRUE", "enable-oslogin": "FALSE"}
    if spec.script:
        items[SCRIPT] = spec.script
    if spec.facts:
        items[FACTS] = write_facts(spec.facts)
    return items


def metadata_items(metadata: Mapping[str, str]) -> list[sdk.compute.Items]:
    """Return metadata in the service's format."""
    return [sdk.compute.Items(key=key, value=value) for key, value in metadata.items()]


def scheduling(spec: BootSpec) -> sdk.compute.Scheduling:
    """Return what happens to a machine at its deadline and on spot preemption (one action for both)."""
    ends = {spec.at_deadline} if spec.deadline_s else set()
    ends |= {spec.wishes.on_preempt or End.STOP} if spec.wishes.spot else set()
    if spec.wishes.spot:
        wanted = sdk.compute.Scheduling(provisioning_model="SPOT", on_host_maintenance="TERMINATE", automatic_restart=False)
    else:
        wanted = sdk.compute.Scheduling(provisioning_model="STANDARD", automatic_restart=not ends)
    if gpus.is_bound_to_host(spec.wishes):  # "do not support live migration": jenkinsci/google-compute-engine-plugin#63
        wanted.on_host_maintenance = "TERMINATE"
    if ends:
        wanted.instance_termination_action = (End.DELETE if End.DELETE in ends else End.STOP).upper()
    limit_run_time(wanted, spec.deadline_s)
    return wanted


def limit_run_time(schedule: sdk.compute.Scheduling, deadline_s: int) -> None:
    """Limit the run time in a schedule (0: no limit). InvalidError: longer than Compute Engine allows."""
    least_s, most_s = LIFETIME_S
    if deadline_s > most_s:
        raise InvalidError(
            f"lifetime {deadline_s / 3600:.0f} h exceeds Compute Engine's limit of {most_s // 3600} h",
            next_step=f"Use --lifetime-h {most_s // 3600 - 1} or less, or 0 for no limit.",
        )
    if deadline_s:
        schedule.max_run_duration = sdk.compute.Duration(seconds=max(deadline_s, least_s))


def write_facts(facts: Mapping[str, str]) -> str:
    """Return facts for the guest: lines that a shell can source."""
    return "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items())


def read_facts(text: str) -> dict[str, str]:
    """Return the facts in the output of `write_facts`."""
    words = (shlex.split(line)[0] for line in text.splitlines() if line)
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def metadata_of(instance: sdk.compute.Instance) -> dict[str, str]:
    """Return the metadata of an instance."""
    return {item.key: item.value for item in instance.metadata.items}


def zone_of(thing: Zoned) -> str:
    """Return the zone of an instance or disk."""
    return thing.zone.rpartition("/")[2]


def is_ours(instance: sdk.compute.Instance) -> bool:
    """Return whether Bakehouse created an instance."""
    return naming.from_labels(instance.labels).get("project") == names.PROJECT


def place(instance: sdk.compute.Instance) -> dict[str, str]:
    """Return the request fields that identify an instance."""
    return {"zone": zone_of(instance), "instance": instance.name}


def state(instance: sdk.compute.Instance) -> State:
    """Return the state of an instance."""
    return _STATES.get(instance.status, State.STARTING)


def resource(instance: sdk.compute.Instance) -> Resource:
    """Return an instance as a Resource."""
    size_gb = sum(disk.disk_size_gb for disk in instance.disks)
    return Resource(
        kind=Kind.MACHINE,
        name=instance.name,
        state=state(instance),
        labels=naming.from_labels(instance.labels),
        created_at=seconds(instance.creation_timestamp),
        size_bytes=size_gb * 2**30,
        zone=zone_of(instance),
    )


def seconds(timestamp: str) -> float:
    """Convert a timestamp of Google (RFC 3339) to seconds since the epoch; 0 for ""."""
    return datetime.fromisoformat(timestamp).timestamp() if timestamp else 0.0
