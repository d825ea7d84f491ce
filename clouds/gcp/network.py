"""Firewall rules, network and addresses: a machine is reachable only from the caller's address, at its requested ports.

Our own network has no ingress rules except those of machines. A network that the user names may have rules that admit everybody
(the default network opens port 22); there a deny rule of higher priority protects each of our machines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from clouds import names
from clouds.caller import as_range, own_address
from clouds.driver import BootSpec
from clouds.errors import BakehouseError, CloudError, ConflictError, InvalidError, NotFoundError, TimedOutError
from clouds.gcp import naming, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish
from clouds.gcp.places import OWN_NETWORK, Places, region_of
from clouds.gcp.rules import correct, delete_rules
from clouds.near import did_you_mean
from clouds.waiter import until

SSH_PORT = 22
SSH = "ssh"
"""The access that a machine has by a rule for its SSH server."""
SHUT = "shut"
"""The suffix of a deny rule's name."""
EVERYBODY = "0.0.0.0/0"
_ALLOW_PRIORITY, _DENY_PRIORITY = 800, 900
"""Both precede 65534, used by the default network's rules, and 1000, the default of new rules."""
_ADDRESS_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""The pattern of Address.name in the discovery document of compute v1."""
_MADE_S = 180
"""How long to wait for a network that another command creates."""


def rules(spec: BootSpec, places: Places, source: str) -> Iterator[sdk.compute.Firewall]:
    """Yield the firewall rules of a machine, each with a target tag of the same name."""
    ports = {SSH: SSH_PORT if SSH_PORT in spec.ports else 0, "https": spec.wishes.https_port}
    for access, port in ports.items():
        if port:
            yield rule(spec.name, access, port, network=places.network, sources=[source], labels=spec.labels)
    if not places.is_own_network:
        yield rule(spec.name, SHUT, 0, network=places.network, sources=[], labels=spec.labels)


def rule(
    machine: str, access: str, port: int, *, network: str, sources: Iterable[str], labels: Mapping[str, str]
) -> sdk.compute.Firewall:
    """Return the rule that opens a TCP port of a machine to `sources` (CIDR); for SHUT the one that denies everything."""
    name, is_shut = naming.rule_name(machine, access), access == SHUT
    found = sdk.compute.Firewall(
        name=name,
        network=f"global/networks/{network}",
        direction="INGRESS",
        priority=_DENY_PRIORITY if is_shut else _ALLOW_PRIORITY,
        source_ranges=[EVERYBODY] if is_shut else list(sources),
        target_tags=[name],
        disabled=False,
        description=naming.to_description({**labels, "machine": machine}),
    )
    if is_shut:
        found.denied = [sdk.compute.Denied(I_p_protocol="all")]
    else:
        found.allowed = [sdk.compute.Allowed(I_p_protocol="tcp", ports=[str(port)])]
    return found


def make_rules(
    client: Client,
    machine: str,
    token: str,
    wanted: Iterable[sdk.compute.Firewall],
    is_taken: Callable[[], bool],
    *,
    try_: str = "",
) -> Iterator[sdk.compute.Operation]:
    """Request rules and yield their operations; an existing rule of the same token, from an earlier attempt, is corrected.

    A rule of a dead command is replaced. ConflictError: the rule belongs to another machine; `is_taken` returns whether a
    machine of this name exists. The same rule with another `try_` is another request.
    """
    for rule in wanted:
        what = f"firewall rule {rule.name!r} of machine {machine!r}"
        try:
            yield _make_rule(client, token, rule, what, try_=try_)
        except ConflictError:
            yield from _correct_or_replace(client, machine, token, rule, what, is_taken)


def _make_rule(client: Client, token: str, rule: sdk.compute.Firewall, what: str, *, try_: str) -> sdk.compute.Operation:
    parts = (rule.name, *rule.source_ranges, *(port for item in rule.allowed for port in item.ports), *([try_] if try_ else []))
    request_id = naming.request_id(token, *parts)  # covers the content: another address is another request
    return client.change(what, client.services.firewalls.insert_unary, request_id=request_id, firewall_resource=rule)


def _correct_or_replace(
    client: Client, machine: str, token: str, rule: sdk.compute.Firewall, what: str, is_taken: Callable[[], bool]
) -> Iterator[sdk.compute.Operation]:
    """Request a rule whose name is taken: correct or replace the existing one. ConflictError: it belongs to another machine."""
    try:
        found = client.ask(what, client.services.firewalls.get, firewall=rule.name)
    except NotFoundError:
        yield _make_rule(client, token, rule, what, try_="again")
        return
    labels = naming.from_description(found.description)
    if labels.get("token", "") == token:
        yield from correct(client, what, found, rule)
        return
    if is_taken() or not names.client_is_dead(labels):
        raise ConflictError(
            f"machine name {machine!r} is taken: firewall rule {rule.name!r} belongs to another machine of that name",
            next_step="Choose another name. If there is no such machine, remove the rule: ./inv gc",
        )
    for operation in delete_rules(client, [rule.name]):
        finish(client, what, operation)
    yield _make_rule(client, token, rule, what, try_="again")


def delete_made(client: Client, machine: str, operations: Iterable[sdk.compute.Operation], cause: Exception) -> None:
    """Delete exactly the rules that these operations create, once they exist. Adds a note to `cause` for each that is left."""
    for operation in operations:
        rule = operation.target_link.rpartition("/")[2]
        try:
            finish(client, f"firewall rule {rule!r} of machine {machine!r}", operation)
            delete_rules(client, [rule])
        except BakehouseError as error:
            cause.add_note(f"left behind: firewall rule {rule!r} ({error.message}); to remove it: ./inv gc")


def rules_of_token(client: Client, machine: str, token: str) -> list[str]:
    """Return the names of the rules that one launch created: a machine of the same name may have others."""
    found = our_rules(client, machine)
    return [rule.name for rule in found if naming.from_description(rule.description).get("token") == token]


def our_rules(client: Client, machine: str = "") -> list[sdk.compute.Firewall]:
    """Return our firewall rules, of one machine or of all."""
    expression = f"name eq {naming.PREFIX}{machine + '-' if machine else ''}.*"
    pages = client.pages("firewall rules", client.services.firewalls.list, expression)
    found = [rule for page in pages for rule in page.items]
    return [rule for rule in found if not machine or naming.machine_of_rule(rule.name) == machine]


def ensure_own_network(client: Client, region: str) -> None:
    """Create our own network if it is missing; if another command is creating it, wait for its subnet in a region.

    InvalidError: there is no such region.

    Checked in advance: without the network, a firewall rule is rejected with 404, but an instance with 400 `invalid`
    ("The referenced network resource cannot be found": google/anthos-microk8s#1), as for other mistakes in the request.
    """
    what = f"network {OWN_NETWORK!r}"
    try:
        found = client.ask(what, client.services.networks.get, network=OWN_NETWORK)
    except NotFoundError:
        return make_own_network(client, region)
    if found.auto_create_subnetworks and not _has_subnet(found, region):
        _check_region(client, region)
        _await_subnet(client, what, region)
    return None


def make_own_network(client: Client, region: str) -> None:
    """Create our own network and wait for it; if another command creates it first, wait for its subnet in a region."""
    what = f"network {OWN_NETWORK!r}"
    network = sdk.compute.Network(
        name=OWN_NETWORK,
        auto_create_subnetworks=True,
        description="project=bakehouse",
        routing_config=sdk.compute.NetworkRoutingConfig(routing_mode="REGIONAL"),
    )
    try:
        finish(client, what, client.change(what, client.services.networks.insert_unary, network_resource=network))
    except ConflictError:
        _await_subnet(client, what, region)


def _await_subnet(client: Client, what: str, region: str) -> None:
    """Wait until our own network, which another command is creating, has its subnet in a region."""
    try:
        until(
            lambda: _has_subnet(client.ask(what, client.services.networks.get, network=OWN_NETWORK), region),
            what=f"subnet of {what} in {region}",
            timeout_s=_MADE_S,
            poll_max_s=5,
            sleep=client.sleep,
            clock=client.clock,
        )
    except TimedOutError as error:
        error.next_step = f"See: gcloud compute networks subnets list --network {OWN_NETWORK}; or choose another --region."
        raise


def _check_region(client: Client, region: str) -> None:
    """Raise InvalidError, with the nearest name, if no zone is in a region; say nothing if the zones cannot be listed."""
    try:
        zones = [zone.name for page in client.pages("zones", client.services.zones.list, "") for zone in page.items]
    except CloudError:
        return
    if zones and region not in (known := sorted({region_of(zone) for zone in zones})):
        next_step = did_you_mean(region, known, otherwise="Choose a --region: gcloud compute regions list")
        raise InvalidError(f"unknown region {region!r} of Google Cloud", next_step=next_step)


def _has_subnet(network: sdk.compute.Network, region: str) -> bool:
    return any(f"/regions/{region}/" in link for link in network.subnetworks)


def reserved_address(client: Client, name: str, region: str, labels: Mapping[str, str]) -> str:
    """Return the reserved address of this name; reserve it if it does not exist. ConflictError: a machine uses it."""
    what, services = f"address {name!r}", client.services
    if not _ADDRESS_NAME.fullmatch(name):
        raise InvalidError(
            f"{what}: not a valid name for an address on gcp",
            next_step="Use lowercase letters, digits and hyphens for --static-ip, starting with a letter, such as notebook-1.",
        )
    try:
        found = client.ask(what, services.addresses.get, region=region, address=name)
    except NotFoundError:
        resource = sdk.compute.Address(name=name, description=naming.to_description(labels))
        finish(client, what, client.change(what, services.addresses.insert_unary, region=region, address_resource=resource))
        found = client.ask(what, services.addresses.get, region=region, address=name)
    if found.users:
        user = found.users[0].rpartition("/")[2]
        raise ConflictError(f"{what} ({found.address}) is in use by {user!r}", next_step="Choose another --static-ip.")
    return found.address


def source_range(places: Places, client: Client) -> str:
    """Return the address that may reach our machines, as CIDR: from the settings, by default that of this computer."""
    if places.source:
        return as_range(places.source)
    return "127.0.0.1/32" if client.endpoint else as_range(own_address())
