"""Update a machine's firewall rules to the current address of its owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from clouds import names
from clouds.caller import as_range, has_wide_range
from clouds.gcp import naming, network, rules, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish
from clouds.gcp.places import Places


def admit(client: Client, instance: sdk.compute.Instance, places: Places, source: str) -> str:
    """Correct the firewall rules of a machine, and return what changed in one line; "" if nothing did.

    They admit `source` (CIDR), by default the address of this computer, unless the settings name a source or the machine has no
    public address. A range of several addresses was chosen by a user: it stays, and the line says so.
    """
    what = f"machine {instance.name!r}"
    found = {rule.name: rule for rule in network.our_rules(client, instance.name)}
    present = _present(client, instance, places, source)
    told: list[str] = []
    for wanted in _wanted(client, instance, places, found):
        there = found.get(wanted.name)
        if wanted.allowed and present and _must_change(there, present, is_exact=bool(source)):
            wanted.source_ranges = [present]
        elif wanted.allowed and present and not rules.is_admitted(wanted, present):
            told.append(_kept(instance.name, wanted, present))
        told += _correct(client, what, there, wanted)
    return "; ".join(dict.fromkeys(told))


def open_ssh(client: Client, instance: sdk.compute.Instance, places: Places) -> list[sdk.compute.Operation]:
    """Ask for the rule that lets the caller reach the SSH server of a builder, which has its tag since it was created."""
    labels = naming.from_labels(instance.labels)
    name = rules.network_of(instance.network_interfaces[0].network)
    sources = [network.source_range(places, client)]
    wanted = network.rule(instance.name, network.SSH, network.SSH_PORT, network=name, sources=sources, labels=labels)
    # Each time anew: with the request id of a rule that was removed since, Compute Engine would make none.
    made = network.make_rules(client, instance.name, labels.get("token", ""), [wanted], lambda: False, try_=names.new_nonce())
    return list(made)


def close_ssh(client: Client, machine: str) -> list[sdk.compute.Operation]:
    """Ask for the removal of that rule; none when it is gone."""
    return rules.delete_rules(client, [naming.rule_name(machine, network.SSH)])


def _present(client: Client, instance: sdk.compute.Instance, places: Places, source: str) -> str:
    """Return the range to admit; "": keep the ranges as they are."""
    if source:
        return as_range(source)
    is_public = any(interface.access_configs for interface in instance.network_interfaces)
    return network.source_range(places, client) if is_public and not places.source else ""


def _wanted(
    client: Client, instance: sdk.compute.Instance, places: Places, found: Mapping[str, sdk.compute.Firewall]
) -> Iterator[sdk.compute.Firewall]:
    """Yield the expected rule of each of a machine's own tags, with its current ranges."""
    labels = naming.from_labels(instance.labels)
    name = rules.network_of(instance.network_interfaces[0].network)
    ports = {network.SSH: network.SSH_PORT, "https": names.number(labels, "https"), network.SHUT: 0}
    for tag in instance.tags.items:
        access = tag.rpartition("-")[2]
        if naming.machine_of_rule(tag) != instance.name or access not in ports:
            continue
        ranges = list(found[tag].source_ranges) if tag in found else [network.source_range(places, client)]
        yield network.rule(instance.name, access, ports[access], network=name, sources=ranges, labels=labels)


def _must_change(there: sdk.compute.Firewall | None, present: str, *, is_exact: bool) -> bool:
    if there is None or is_exact:
        return True
    return not rules.is_admitted(there, present) and not has_wide_range(there.source_ranges)


def _correct(client: Client, what: str, there: sdk.compute.Firewall | None, wanted: sdk.compute.Firewall) -> Iterator[str]:
    """Create or correct a rule, and yield what changed."""
    if there is None:
        finish(client, what, client.change(what, client.services.firewalls.insert_unary, firewall_resource=wanted))
        yield f"firewall of {what}: created missing rule {wanted.name!r}"
        return
    wanted.description = there.description
    for operation in rules.correct(client, what, there, wanted):
        finish(client, what, operation)
        yield _news(what, there, wanted)


def _news(what: str, there: sdk.compute.Firewall, wanted: sdk.compute.Firewall) -> str:
    before, after = ", ".join(there.source_ranges), ", ".join(wanted.source_ranges)
    if before == after:
        return f"firewall of {what}: corrected rule {wanted.name!r}, which had been changed"
    return f"firewall of {what}: now admits {after}, no longer {before}"


def _kept(machine: str, rule: sdk.compute.Firewall, present: str) -> str:
    return (
        f"firewall of machine {machine!r}: admits {', '.join(rule.source_ranges)}, but not your address {present}; "
        f"to admit that instead: ./inv start {machine} --source {present}"
    )
