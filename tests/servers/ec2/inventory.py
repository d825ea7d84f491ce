"""What there is in an account that is billed or left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.servers.ec2.cloud import Cloud


def lines(cloud: Cloud) -> list[str]:
    """Return one line per resource, sorted."""
    schedules = [f"schedules {region}/{name}" for region, name in cloud.schedules]
    return sorted([*schedules, *(line for region in cloud.regions() for line in _lines(region))])


def _lines(region: Any) -> Iterator[str]:
    place = region.region_name
    for instance in region.all_instances():
        if instance.state != "terminated":
            yield f"instances {instance.availability_zone}/{_name(region, instance)} {instance.state}"
    for volume in region.volumes.values():
        yield f"volumes {volume.availability_zone}/{_name(region, volume)} {volume.status}"
    for image in region.own_images():
        yield f"images {place}/{image.name} {image.state}"
    for snapshot in region.snapshots.values():
        yield f"snapshots {place}/{_name(region, snapshot)} {snapshot.status}"
    for request in region.spot_instance_requests.values():
        if request.state in ("open", "active", "disabled"):
            yield f"spot-requests {place}/{_name(region, request)} {request.state}"
    for address in region.addresses:
        yield f"addresses {place}/{address.public_ip}"
    for key in region.key_pairs:
        yield f"key-pairs {place}/{key}"
    for group in region.describe_security_groups():
        if group.name != "default":
            yield f"security-groups {place}/{group.name}"
    yield from _network(region)


def _network(region: Any) -> Iterator[str]:
    place = region.region_name
    for nic in region.enis.values():
        if nic.instance is None or nic.instance.state == "terminated":
            yield f"network-interfaces {place}/{nic.id} {nic.status}"
    for vpc in region.vpcs.values():
        if str(vpc.is_default).lower() != "true":
            yield f"vpcs {place}/{_name(region, vpc)}"
    for subnet in region.describe_subnets():
        if str(subnet.default_for_az).lower() != "true":
            yield f"subnets {place}/{_name(region, subnet)}"
    for gateway in region.internet_gateways.values():
        yield f"internet-gateways {place}/{_name(region, gateway)}"


def _name(region: Any, thing: Any) -> str:
    return str(region.tags.get(thing.id, {}).get("Name", thing.id))
