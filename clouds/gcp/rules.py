"""Firewall rules as they are and as they should be: compared, corrected, removed."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from clouds.caller import admits
from clouds.errors import NotFoundError
from clouds.gcp import sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish


def correct(
    client: Client, what: str, found: sdk.compute.Firewall, wanted: sdk.compute.Firewall
) -> Iterator[sdk.compute.Operation]:
    """Ask that a rule be as it should be, and yield the operation; none where it is. It is patched, else made anew."""
    if is_same(found, wanted):
        return
    if _can_be_patched(found, wanted):
        yield client.change(what, client.services.firewalls.patch_unary, firewall=wanted.name, firewall_resource=wanted)
        return
    for operation in delete_rules(client, [wanted.name]):
        finish(client, what, operation)
    yield client.change(what, client.services.firewalls.insert_unary, firewall_resource=wanted)


def is_same(found: sdk.compute.Firewall, wanted: sdk.compute.Firewall) -> bool:
    """Say whether two rules let the same in: network, direction, order, sources, targets, protocols and ports."""
    return _meaning(found) == _meaning(wanted)


def is_admitted(rule: sdk.compute.Firewall, source: str) -> bool:
    """Say whether a rule's ranges hold a whole range."""
    return admits(rule.source_ranges, source)


def network_of(link: str) -> str:
    """Return the name of a network from its link or path."""
    return link.rpartition("/")[2]


def _meaning(rule: sdk.compute.Firewall) -> tuple[object, ...]:
    return (
        network_of(rule.network),
        rule.direction or "INGRESS",
        rule.disabled,
        rule.priority,
        sorted(str(ipaddress.ip_network(text, strict=False)) for text in rule.source_ranges),
        sorted(rule.target_tags),
        _protocols(rule.allowed),
        _protocols(rule.denied),
        _other_selectors(rule),
    )


def _protocols(items: Iterable[sdk.compute.Allowed | sdk.compute.Denied]) -> list[tuple[str, list[str]]]:
    return sorted((item.I_p_protocol.lower(), sorted(item.ports)) for item in items)


def _other_selectors(rule: sdk.compute.Firewall) -> list[str]:
    """Return what else decides on whom a rule holds; none of ours has any."""
    return [*rule.source_tags, *rule.source_service_accounts, *rule.target_service_accounts, *rule.destination_ranges]


def _can_be_patched(found: sdk.compute.Firewall, wanted: sdk.compute.Firewall) -> bool:
    """Say whether a patch leads from one rule to another: it changes neither network nor direction, and clears no list.

    A message of the library says nothing of an empty list, and a JSON merge patch keeps what it does not name.
    """
    fixed = (network_of(found.network), found.direction) == (network_of(wanted.network), wanted.direction)
    return fixed and not _other_selectors(found) and bool(found.allowed) == bool(wanted.allowed)


def delete_rules(client: Client, rule_names: Iterable[str]) -> list[sdk.compute.Operation]:
    """Ask for the removal of rules and return the operations; what is gone is gone."""
    operations = []
    for name in rule_names:
        try:
            operations.append(client.change(f"firewall rule {name}", client.services.firewalls.delete_unary, firewall=name))
        except NotFoundError:
            continue
    return operations
