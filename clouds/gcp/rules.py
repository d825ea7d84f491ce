"""Compare, correct and delete firewall rules."""

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
    """Correct a rule, and yield the operation; none if it is correct. Patches the rule if possible, otherwise recreates it."""
    if is_same(found, wanted):
        return
    if _can_be_patched(found, wanted):
        yield client.change(what, client.services.firewalls.patch_unary, firewall=wanted.name, firewall_resource=wanted)
        return
    for operation in delete_rules(client, [wanted.name]):
        finish(client, what, operation)
    yield client.change(what, client.services.firewalls.insert_unary, firewall_resource=wanted)


def is_same(found: sdk.compute.Firewall, wanted: sdk.compute.Firewall) -> bool:
    """Return whether two rules are equivalent: network, direction, priority, sources, targets, protocols and ports."""
    return _meaning(found) == _meaning(wanted)


def is_admitted(rule: sdk.compute.Firewall, source: str) -> bool:
    """Return whether one of a rule's ranges contains a whole range."""
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
    """Return other fields that select sources or targets; our rules have none."""
    return [*rule.source_tags, *rule.source_service_accounts, *rule.target_service_accounts, *rule.destination_ranges]


def _can_be_patched(found: sdk.compute.Firewall, wanted: sdk.compute.Firewall) -> bool:
    """Return whether a patch can turn one rule into the other: it can change neither network nor direction, nor clear a list.

    The library's messages omit empty lists, and a JSON merge patch keeps fields that it does not contain.
    """
    fixed = (network_of(found.network), found.direction) == (network_of(wanted.network), wanted.direction)
    return fixed and not _other_selectors(found) and bool(found.allowed) == bool(wanted.allowed)


def delete_rules(client: Client, rule_names: Iterable[str]) -> list[sdk.compute.Operation]:
    """Request the deletion of rules and return the operations; rules that do not exist are skipped."""
    operations = []
    for name in rule_names:
        try:
            operations.append(client.change(f"firewall rule {name!r}", client.services.firewalls.delete_unary, firewall=name))
        except NotFoundError:
            continue
    return operations
