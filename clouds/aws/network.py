"""Where machines are in the network, and who can reach them: nobody, but the caller's own address at the ports that were asked for.

Each machine has a security group of its own, which admits nobody until a rule says so, and which goes with the machine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clouds import caller
from clouds.aws import naming
from clouds.aws.client import Client
from clouds.aws.failures import NotReadyError
from clouds.aws.places import Places
from clouds.driver import BootSpec
from clouds.errors import ConflictError, InvalidError, NotFoundError

SSH_PORT = 22
Group = dict[str, Any]
"""A security group as DescribeSecurityGroups returns it."""


@dataclass(frozen=True, slots=True)
class Subnet:
    """A part of a network, which is in one availability zone."""

    id: str
    network: str
    zone: str


@dataclass(slots=True)
class Subnets:
    """The subnets that machines may go to: the one that is set, else the default one of each zone."""

    client: Client
    places: Places
    _found: list[Subnet] = field(default_factory=list)

    def choose(self, zone: str) -> Subnet:
        """Return the subnet for a zone ("": the first one). InvalidError: there is none."""
        fitting = [subnet for subnet in self._all() if not zone or subnet.zone == zone]
        if not fitting and self.places.subnet:
            raise InvalidError(
                f"zone {zone}: the subnet {self.places.subnet} is in {self._all()[0].zone}",
                next_step="Leave --zone out, or choose another --subnet.",
            )
        if not fitting:
            raise InvalidError(
                f"zone {zone}: no default subnet" if zone else f"region {self.client.region_name}: no default network",
                next_step="Choose another --zone, name a --subnet, or make default ones: aws ec2 create-default-vpc, "
                "aws ec2 create-default-subnet",
            )
        return fitting[0]

    def zones(self) -> tuple[str, ...]:
        """Return the zones that machines may go to."""
        return tuple(subnet.zone for subnet in self._all())

    def _all(self) -> list[Subnet]:
        if not self._found:
            what = {"SubnetIds": [self.places.subnet]} if self.places.subnet else {"Filters": [_filter("default-for-az", "true")]}
            listed = self.client.items("subnets", "describe_subnets", "Subnets", **what)
            found = [Subnet(one["SubnetId"], one["VpcId"], one["AvailabilityZone"]) for one in listed]
            self._found = sorted(found, key=lambda subnet: subnet.zone)
        return self._found


def ensure_group(client: Client, spec: BootSpec, network: str) -> str:
    """Make the security group of a machine and return its id; that of an earlier try with this token serves."""
    name, what = naming.group_name(spec.name, spec.token), f"machine {spec.name}: security group"
    tags = naming.to_tags({**spec.labels, "token": spec.token, naming.MACHINE: spec.name}, spec.name)
    try:
        answer = client.ask(
            what,
            "create_security_group",
            GroupName=name,
            VpcId=network,
            Description=f"Made by Bakehouse for the machine {spec.name}",
            TagSpecifications=naming.specifications(tags, ("security-group",)),
        )
    except ConflictError:
        answer = _existing(client, what, name, network)
    return str(answer["GroupId"])


def _existing(client: Client, what: str, name: str, network: str) -> Group:
    """Return the group of a name that is taken, once EC2 lists it."""
    filters = [_filter("group-name", name), _filter("vpc-id", network)]
    found: list[Group] = client.until(
        lambda: list(client.items(what, "describe_security_groups", "SecurityGroups", Filters=filters)),
        what=f"{what} {name}",
        timeout_s=client.unseen_s,
    )
    return found[0]


def ports(spec: BootSpec) -> list[int]:
    """Return the ports of a machine that the caller must reach directly."""
    return [port for port in (SSH_PORT if SSH_PORT in spec.ports else 0, spec.wishes.https_port) if port]


def admit(client: Client, what: str, group: str, port: int, sources: list[str]) -> None:
    """Open a TCP port of a group to ranges (CIDR); what is open already stays so."""
    for source in sources:
        try:
            client.ask_about_new(what, "authorize_security_group_ingress", GroupId=group, IpPermissions=[_rule(port, source)])
        except ConflictError:
            continue


def shut(client: Client, what: str, group: str, port: int, sources: list[str]) -> None:
    """Close a TCP port of a group to ranges (CIDR); what is closed already stays so."""
    for source in sources:
        try:
            client.ask(what, "revoke_security_group_ingress", GroupId=group, IpPermissions=[_rule(port, source)])
        except NotFoundError:
            continue


def _rule(port: int, source: str) -> dict[str, Any]:
    kind, key = ("Ipv6Ranges", "CidrIpv6") if ":" in source else ("IpRanges", "CidrIp")
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, kind: [{key: source}]}


def admitted(group: Group) -> dict[int, list[str]]:
    """Return the ranges (CIDR) that a group admits, by TCP port; a rule for several ports counts for its first."""
    found: dict[int, list[str]] = {}
    for rule in group.get("IpPermissions", ()):
        ranges = [one["CidrIp"] for one in rule.get("IpRanges", ())] + [one["CidrIpv6"] for one in rule.get("Ipv6Ranges", ())]
        found.setdefault(int(rule.get("FromPort", 0)), []).extend(ranges)
    return found


def our_groups(client: Client, labels: Mapping[str, str], **filters: str) -> Iterator[Group]:
    """Yield the security groups of machines that carry all these labels."""
    listed = client.items(
        "security groups", "describe_security_groups", "SecurityGroups", Filters=naming.tag_filters(labels, **filters)
    )
    for group in listed:
        found = naming.from_tags(group)
        if naming.MACHINE in found and labels.items() <= found.items():
            yield group


def groups_named(client: Client, name: str) -> list[str]:
    """Return the ids of our security groups of a name, in all networks."""
    return [group["GroupId"] for group in our_groups(client, {}, group_name=name)]


def delete_group(client: Client, group: str) -> bool:
    """Delete a security group; say False when a machine still uses it. NotFoundError: it is gone, or not seen yet."""
    try:
        client.ask(f"security group {group}", "delete_security_group", GroupId=group)
    except NotReadyError:
        return False
    return True


def source_range(places: Places, client: Client) -> str:
    """Return the address that may reach our machines, as CIDR: the one that is set, else that of this computer."""
    if places.source:
        return caller.as_range(places.source)
    return "127.0.0.1/32" if client.is_local else caller.as_range(caller.own_address())


def _filter(name: str, value: str) -> dict[str, Any]:
    return {"Name": name, "Values": [value]}
