"""Addresses that are reserved once and kept: Elastic IP addresses, found by their tag `Name`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clouds.aws import naming
from clouds.aws.client import Client
from clouds.driver import BootSpec, Kind, Resource, State
from clouds.errors import ConflictError, NotFoundError

_ROLE = {"role": "address"}
Address = dict[str, Any]
"""An address as DescribeAddresses returns it."""


def reserved(client: Client, spec: BootSpec) -> str:
    """Return the id of the reserved address that a machine is to have, reserved now where it is not. ConflictError: in use."""
    name = spec.wishes.static_ip
    found = next(iter(ours(client, {naming.NAME: name})), None)
    if found is None:
        return _reserve(client, name)
    if user := _user(found):
        raise ConflictError(f"address {name} ({found['PublicIp']}): in use by {user}", next_step="Choose another --static-ip.")
    return str(found["AllocationId"])


def _reserve(client: Client, name: str) -> str:
    """Reserve an address and return its id. If there are several of the name now, the first one is kept, here and elsewhere.

    AllocateAddress has no ClientToken: a request that was repeated since its answer was lost reserves a second address.
    """
    tags = naming.specifications(naming.to_tags(_ROLE, name), ("elastic-ip",))
    made = client.ask(f"address {name}", "allocate_address", Domain="vpc", TagSpecifications=tags)
    kept, *others = ours(client, {naming.NAME: name}) or [made]  # a new one may not be listed yet
    for one in others:
        if not _user(one):
            _release(client, name, one)
    return str(kept["AllocationId"])


def associate(client: Client, machine: str, instance: str, address: str) -> None:
    """Give an instance that runs a reserved address. ConflictError: another one has it meanwhile."""
    what = f"machine {machine}: address"
    try:
        client.ask_about_new(what, "associate_address", InstanceId=instance, AllocationId=address, AllowReassociation=False)
    except ConflictError:  # or it has it already, and the answer was lost
        found = client.ask(what, "describe_addresses", AllocationIds=[address])["Addresses"]
        if not any(one.get("InstanceId") == instance for one in found):
            raise


def ours(client: Client, labels: Mapping[str, str]) -> list[Address]:
    """Return the addresses that we have reserved and that carry all these tags, in a fixed order."""
    answer = client.ask("addresses", "describe_addresses", Filters=naming.tag_filters({**_ROLE, **labels}))
    found = [one for one in answer["Addresses"] if labels.items() <= naming.raw_tags(one).items()]
    return sorted(found, key=lambda one: str(one["AllocationId"]))


def resources(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    """Return the addresses that we have reserved and that carry all these labels."""
    return [
        Resource(
            kind=Kind.ADDRESS,
            name=naming.raw_tags(one).get(naming.NAME) or str(one["AllocationId"]),
            state=State.RUNNING if one.get("AssociationId") else State.READY,
            labels=naming.from_tags(one),
            zone=client.region_name,
        )
        for one in ours(client, labels)
    ]


def release(client: Client, name: str) -> None:
    """Give a reserved address back; absent is a success. ConflictError: it is in use.

    In a default VPC, EC2 would take it away from its machine
    (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html).
    """
    found = ours(client, {naming.NAME: name})
    for one in found:
        if user := _user(one):
            raise ConflictError(f"address {name} ({one['PublicIp']}): in use by {user}", next_step="Delete that machine first.")
    for one in found:
        _release(client, name, one)


def _release(client: Client, name: str, address: Address) -> None:
    try:
        client.ask(f"address {name}", "release_address", AllocationId=address["AllocationId"])
    except NotFoundError:
        return


def _user(address: Address) -> str:
    """Return the id of what has an address: an instance, or a network interface of something else (a NAT gateway); "" for none."""
    return str(address.get("InstanceId") or address.get("NetworkInterfaceId") or "")
