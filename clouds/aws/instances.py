"""Machines as EC2 has them: the request that makes one, and what is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from clouds import names
from clouds.aws import naming, user_data
from clouds.driver import BootSpec, End, Kind, Resource, State

Instance = dict[str, Any]
"""An instance as DescribeInstances returns it."""
LIVE = ("pending", "running", "shutting-down", "stopping", "stopped")
"""The states of an instance that is not gone yet; one that is `terminated` is listed for about an hour more."""
_STATES = {
    "pending": State.STARTING,
    "running": State.RUNNING,
    "shutting-down": State.STOPPING,
    "stopping": State.STOPPING,
    "stopped": State.STOPPED,
    "terminated": State.STOPPED,
}
_RECLAIMED = ("Server.SpotInstanceTermination", "Server.SpotInstanceShutdown")
"""The reasons of an instance whose spot capacity AWS has taken back, and which it has terminated or stopped
(docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html)."""
_DISK = "gp3"
_DISK_LABEL = "disk-gb"
_GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a machine goes: its subnet and security group, its image and that one's root device, its type and its role."""

    subnet: str
    group: str
    image: str
    root_device: str
    instance_type: str
    instance_profile: str


def request(spec: BootSpec, site: Site, token: str, more_tags: Mapping[str, str] = {}) -> dict[str, Any]:
    """Return the request for a machine; `token` is its ClientToken."""
    tags = naming.to_tags({_DISK_LABEL: str(spec.disk_gb), **more_tags, **spec.labels, "token": spec.token}, spec.name)
    wanted: dict[str, Any] = {
        "ClientToken": token,
        "MinCount": 1,
        "MaxCount": 1,
        "ImageId": site.image,
        "InstanceType": site.instance_type,
        "InstanceInitiatedShutdownBehavior": "terminate" if ends_for_good(spec) else "stop",
        "BlockDeviceMappings": [{"DeviceName": site.root_device, "Ebs": _disk(spec)}],
        "NetworkInterfaces": [_interface(spec, site)],
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        "TagSpecifications": naming.specifications(tags, ("instance", "volume", "network-interface")),
    }
    if spec.script or spec.facts:
        wanted["UserData"] = user_data.build(spec.facts, spec.script)
    if site.instance_profile:
        wanted["IamInstanceProfile"] = {"Name": site.instance_profile}
    if spec.wishes.spot:
        wanted["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": _spot(spec)}
        wanted["TagSpecifications"] += naming.specifications(tags, ("spot-instances-request",))
    return wanted


def ends_for_good(spec: BootSpec) -> bool:
    """Say whether a machine that powers itself off is gone: at its deadline, or since its spot request allows no stop."""
    return (spec.deadline_s > 0 and spec.at_deadline is End.DELETE) or (spec.wishes.spot and spec.wishes.on_preempt is End.DELETE)


def _disk(spec: BootSpec) -> dict[str, Any]:
    return {
        "VolumeSize": spec.disk_gb,
        "VolumeType": spec.wishes.disk_type or _DISK,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }


def _interface(spec: BootSpec, site: Site) -> dict[str, Any]:
    """Return the network interface; a reserved address comes once the machine runs, and takes the place of another one."""
    return {
        "DeviceIndex": 0,
        "SubnetId": site.subnet,
        "Groups": [site.group],
        "AssociatePublicIpAddress": not (spec.wishes.no_public_ip or spec.wishes.static_ip),
        "DeleteOnTermination": True,
    }


def _spot(spec: BootSpec) -> dict[str, str]:
    """Return the terms of spot capacity: only a persistent request lets its instance be stopped, and only that kind stops it."""
    price = {"MaxPrice": price_shown(spec.wishes.max_price_usd)} if spec.wishes.max_price_usd else {}
    if ends_for_good(spec):  # a persistent request would start another instance: fastai/fastec2#14
        return {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate", **price}
    return {"SpotInstanceType": "persistent", "InstanceInterruptionBehavior": "stop", **price}


def price_shown(usd: float) -> str:
    """Return a price in US dollars without trailing zeros: `0.05`."""
    return f"{usd:.6f}".rstrip("0").rstrip(".")


def id_of(instance: Instance) -> str:
    """Return the id of an instance."""
    return str(instance["InstanceId"])


def name_of(instance: Instance) -> str:
    """Return the name of a machine."""
    return naming.raw_tags(instance).get(naming.NAME, "")


def phase(instance: Instance) -> str:
    """Return the state of an instance as EC2 calls it."""
    return str(instance["State"]["Name"])


def state(instance: Instance) -> State:
    """Return what an instance does now."""
    return _STATES.get(phase(instance), State.STARTING)


def is_spot(instance: Instance) -> bool:
    """Return whether an instance uses spot capacity."""
    return bool(instance.get("InstanceLifecycle") == "spot")


def was_reclaimed(instance: Instance) -> bool:
    """Return whether AWS has taken the spot capacity of an instance back. Of those that it has stopped, only AWS starts one again.

    docs.aws.amazon.com/AWSEC2/latest/UserGuide/interruption-behavior.html
    """
    return reason(instance).get("Code") in _RECLAIMED


def zone_of(instance: Instance) -> str:
    """Return the availability zone that an instance is in."""
    return str(instance.get("Placement", {}).get("AvailabilityZone", ""))


def disks_of(instance: Instance) -> list[str]:
    """Return the ids of the volumes that an instance has."""
    return [disk["Ebs"]["VolumeId"] for disk in instance.get("BlockDeviceMappings", ()) if "Ebs" in disk]


def groups_of(instance: Instance) -> dict[str, str]:
    """Return the security groups of an instance and of its network interfaces: name by id."""
    listed = [instance.get("SecurityGroups", ()), *(one.get("Groups", ()) for one in instance.get("NetworkInterfaces", ()))]
    return {group["GroupId"]: group["GroupName"] for groups in listed for group in groups}


def own_groups(instance: Instance) -> list[str]:
    """Return the ids of the security groups that go with a machine."""
    own = naming.group_name(name_of(instance), naming.raw_tags(instance).get("token", ""))
    return sorted(group for group, name in groups_of(instance).items() if name == own)


def created_at(instance: Instance) -> float:
    """Return when an instance was made: when its disk or network was attached, since LaunchTime is that of the last start."""
    disks = (disk["Ebs"].get("AttachTime") for disk in instance.get("BlockDeviceMappings", ()) if "Ebs" in disk)
    networks = (interface.get("Attachment", {}).get("AttachTime") for interface in instance.get("NetworkInterfaces", ()))
    return min((seconds(time) for time in (*disks, *networks, instance.get("LaunchTime")) if time), default=0.0)


def age_key(instance: Instance) -> tuple[float, str]:
    """Sort by this, the oldest first; two of one second have the same order for everybody."""
    return created_at(instance), id_of(instance)


def last_change(instance: Instance) -> str:
    """Return when an instance was started last, and why it is in its state: both change with a start that fails, too."""
    return f"{instance['State']['Name']}/{seconds(instance['LaunchTime']):.3f}/{reason(instance).get('Code', '')}"


def resource(instance: Instance) -> Resource:
    """Return an instance as everybody else knows it."""
    labels = naming.from_tags(instance)
    return Resource(
        kind=Kind.MACHINE,
        name=name_of(instance),
        state=state(instance),
        labels=labels,
        created_at=created_at(instance),
        size_bytes=names.number(labels, _DISK_LABEL) * _GIB,
        zone=zone_of(instance),
    )


def address(instance: Instance) -> str:
    """Return the address of a machine: the public one, or the internal one of a machine without; "" for none."""
    return str(instance.get("PublicIpAddress") or instance.get("PrivateIpAddress") or "")


def seconds(time: datetime | str) -> float:
    """Return a time as boto3 (datetime) or an image (ISO 8601) has it, in seconds since the epoch."""
    return (datetime.fromisoformat(time) if isinstance(time, str) else time).timestamp()


def reason(instance: Instance) -> Mapping[str, Any]:
    """Return why an instance is in its state, as EC2 gives it: code and message."""
    found: Mapping[str, Any] = instance.get("StateReason", {})
    return found
