"""Addresses that are reserved once and kept: Elastic IP addresses, found by their tag `Name`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clouds.aws import naming
from clouds.aws.client import Client
from clouds.driver import BootSpec, Kind, Resource, State
from clouds.errors import ConflictError

_ROLE = {"role": "address"}


def reserved(client: Client, spec: BootSpec) -> str:
    """Return the id of the reserved address that a machine is to have, reserved now where it is not. ConflictError: in use."""
    name = spec.wishes.static_ip
    what = f"address {name}"
    found = next(iter(ours(client, {naming.NAME: name})), None)
    if found and found.get("InstanceId"):
        raise ConflictError(
            f"address {name} ({found['PublicIp']}): in use by {found['InstanceId']}", next_step="Choose another --static-ip."
        )
    if found is None:
        tags = naming.specifications(naming.to_tags(_ROLE, name), ("elastic-ip",))
        found = client.ask(what, "allocate_address", Domain="vpc", TagSpecifications=tags)
    return str(found["AllocationId"])


def associate(client: Client, machine: str, instance: str, address: str) -> None:
    """Give an instance that runs a reserved address. ConflictError: another one has it meanwhile."""
    what = f"machine {machine}: address"
    try:
        client.ask_about_new(what, "associate_address", InstanceId=instance, AllocationId=address, AllowReassociation=False)
    except ConflictError:  # or it has it already, and the answer was lost
        found = client.ask(what, "describe_addresses", AllocationIds=[address])["Addresses"]
        if not any(one.get("InstanceId") == instance for one in found):
            raise


def ours(client: Client, labels: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the addresses that we have reserved and that carry all these tags, in a fixed order."""
    answer = client.ask("addresses", "describe_addresses", Filters=naming.tag_filters({**_ROLE, **labels}))
    found = [one for one in answer["Addresses"] if labels.items() <= naming.raw_tags(one).items()]
    return sorted(found, key=lambda one: str(one["AllocationId"]))


def resources(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    """Return the addresses that we have reserved and that carry all these labels."""
    return [
        Resource(
            kind=Kind.ADDRESS,
            name=naming.raw_tags(one).get(naming.NAME, one["AllocationId"]),
            state=State.RUNNING if one.get("AssociationId") else State.READY,
            labels=naming.from_tags(one),
            zone=client.region_name,
        )
        for one in ours(client, labels)
    ]


def release(client: Client, name: str) -> None:
    """Give a reserved address back; absent is a success."""
    for one in ours(client, {naming.NAME: name}):
        client.ask(f"address {name}", "release_address", AllocationId=one["AllocationId"])
