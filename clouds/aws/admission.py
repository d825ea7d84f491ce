"""Let the address that a machine's owner has now reach it, in place of the one before."""

from __future__ import annotations

from collections.abc import Iterable

from clouds import caller, names
from clouds.aws import instances, naming, network
from clouds.aws.client import Client
from clouds.aws.instances import Instance
from clouds.aws.places import Places


def admit(client: Client, instance: Instance, places: Places, source: str) -> str:
    """Correct the security group of a machine and return what is new, one line; "" when it is as it should be.

    It admits `source` (CIDR); without it the address of this computer, unless the settings name a source, or the machine has no
    public address. A range of several addresses was chosen by somebody: it stays, and the line says so.
    """
    machine = instances.name_of(instance)
    present = _present(client, instance, places, source)
    own = instances.own_groups(instance)
    groups = [one for one in network.our_groups(client, {naming.MACHINE: machine}) if one["GroupId"] in own]
    if not present or not groups:
        return ""
    told = [_correct(client, machine, groups[0], port, present, is_exact=bool(source)) for port in _ports(instance, groups[0])]
    return "; ".join(dict.fromkeys(line for line in told if line))


def open_ssh(client: Client, instance: Instance, source: str) -> None:
    """Let `source` (CIDR) reach the SSH server of a builder, whose security group admits nobody else."""
    what = f"machine {instances.name_of(instance)}: security group"
    for group in instances.own_groups(instance):
        network.admit(client, what, group, network.SSH_PORT, [source])


def close_ssh(client: Client, instance: Instance, opened: Iterable[str]) -> None:
    """Let nobody reach the SSH server of a builder any more.

    `opened` are the ranges (CIDR) that this process has admitted: EC2 may not list them yet (hashicorp/terraform#6325).
    """
    what = f"machine {instances.name_of(instance)}: security group"
    for group in instances.own_groups(instance):
        found = client.ask_about_new(what, "describe_security_groups", GroupIds=[group])["SecurityGroups"]
        listed = [source for one in found for source in network.admitted(one).get(network.SSH_PORT, [])]
        network.shut(client, what, group, network.SSH_PORT, list(dict.fromkeys([*listed, *opened])))


def _present(client: Client, instance: Instance, places: Places, source: str) -> str:
    """Return the range that is to be admitted; "": the ranges stay as they are."""
    if source:
        return caller.as_range(source)
    return network.source_range(places, client) if instance.get("PublicIpAddress") and not places.source else ""


def _ports(instance: Instance, group: network.Group) -> list[int]:
    """Return the ports that are to be open: those that have a rule, and that of `--https`, by its label."""
    https = names.number(naming.from_tags(instance), "https")
    return sorted({network.SSH_PORT, *network.admitted(group), *([https] if https else [])} - {0})


def _correct(client: Client, machine: str, group: network.Group, port: int, present: str, *, is_exact: bool) -> str:
    """Let a range, and no other, reach a port, and return what is new. The new rule comes before the old ones go."""
    before = network.admitted(group).get(port, [])
    if before == [present] or (not is_exact and caller.admits(before, present)):
        return ""
    if not is_exact and caller.has_wide_range(before):
        return (
            f"security group of machine {machine}: admits {', '.join(before)}, but not your address {present}; "
            f"to admit that instead: ./inv start {machine} --source {present}"
        )
    what = f"security group of machine {machine}"
    network.admit(client, what, group["GroupId"], port, [present])
    network.shut(client, what, group["GroupId"], port, [one for one in before if one != present])
    return f"{what}: admits {present} now" + (f", and no longer {', '.join(before)}" if before else "")
