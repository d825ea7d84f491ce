"""Who can reach a machine: nobody, but the caller's own address at the ports that a machine was asked for.

In our own network nothing is let in that no rule allows. In a network that the user names there may be rules that let the
world in (the default network opens port 22); there a rule of higher priority than theirs first shuts each machine of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from clouds import names
from clouds.caller import as_range, own_address
from clouds.driver import BootSpec
from clouds.errors import BakehouseError, ConflictError, InvalidError, NotFoundError, TimedOutError
from clouds.gcp import naming, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish
from clouds.gcp.places import OWN_NETWORK, Places
from clouds.gcp.rules import correct, delete_rules
from clouds.waiter import until

SSH_PORT = 22
SSH = "ssh"
"""The access that a machine has by a rule for its SSH server."""
SHUT = "shut"
"""The access that a machine has by a rule that lets nobody in."""
EVERYBODY = "0.0.0.0/0"
_ALLOW_PRIORITY, _DENY_PRIORITY = 800, 900
"""Before the 65534 of the default network's own rules, and before the 1000 that a rule has unless told otherwise."""
_ADDRESS_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""The pattern of Address.name in the discovery document of compute v1."""
_MADE_S = 180
"""How long a network that another command makes may take."""


def rules(spec: BootSpec, places: Places, source: str) -> Iterator[sdk.compute.Firewall]:
    """Yield the firewall rules that a machine needs, each for a tag of its own name."""
    ports = {SSH: SSH_PORT if SSH_PORT in spec.ports else 0, "https": spec.wishes.https_port}
    for access, port in ports.items():
        if port:
            yield rule(spec.name, access, port, network=places.network, sources=[source], labels=spec.labels)
    if not places.is_own_network:
        yield rule(spec.name, SHUT, 0, network=places.network, sources=[], labels=spec.labels)


def rule(
    machine: str, access: str, port: int, *, network: str, sources: Iterable[str], labels: Mapping[str, str]
) -> sdk.compute.Firewall:
    """Return the rule that opens a TCP port of a machine to `sources` (CIDR); for SHUT the one that closes all to everybody."""
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
    """Ask for the rules of a machine and yield their operations; one of the same token, from an earlier try, is corrected.

    One that a dead command left is replaced. ConflictError: it belongs to another machine; `is_taken` says whether there is one of
    the name that is asked for. The same rule with another `try_` is another request.
    """
    for rule in wanted:
        what = f"machine {machine}: firewall rule {rule.name}"
        try:
            yield _make_rule(client, token, rule, what, try_=try_)
        except ConflictError:
            yield from _over_another(client, machine, token, rule, what, is_taken)


def _make_rule(client: Client, token: str, rule: sdk.compute.Firewall, what: str, *, try_: str) -> sdk.compute.Operation:
    parts = (rule.name, *rule.source_ranges, *(port for item in rule.allowed for port in item.ports), *([try_] if try_ else []))
    request_id = naming.request_id(token, *parts)  # of what is asked for: another address is another request
    return client.change(what, client.services.firewalls.insert_unary, request_id=request_id, firewall_resource=rule)


def _over_another(
    client: Client, machine: str, token: str, rule: sdk.compute.Firewall, what: str, is_taken: Callable[[], bool]
) -> Iterator[sdk.compute.Operation]:
    """Ask for a rule whose name is taken, by what is there. ConflictError: it is another's."""
    try:
        found = client.ask(what, client.services.firewalls.get, firewall=rule.name)
    except NotFoundError:
        yield _make_rule(client, token, rule, what, try_="again")
        return
    labels = naming.from_description(found.description)
    if labels.get("token") == token:
        yield from correct(client, what, found, rule)
        return
    if is_taken() or not names.client_is_dead(labels):
        raise ConflictError(
            f"machine {machine}: the name is taken: firewall rule {rule.name} belongs to another machine of that name",
            next_step="Choose another name. If there is no such machine, remove the rule: ./inv gc",
        )
    for operation in delete_rules(client, [rule.name]):
        finish(client, what, operation)
    yield _make_rule(client, token, rule, what, try_="again")


def delete_made(client: Client, machine: str, operations: Iterable[sdk.compute.Operation], cause: Exception) -> None:
    """Remove the rules that these operations make, once they are made, and no other. `cause` is told of one that stays."""
    for operation in operations:
        rule = operation.target_link.rpartition("/")[2]
        try:
            finish(client, f"machine {machine}: firewall rule {rule}", operation)
            delete_rules(client, [rule])
        except BakehouseError as error:
            cause.add_note(f"left behind: firewall rule {rule} ({error.message}); to remove it: ./inv gc")


def rules_of_token(client: Client, machine: str, token: str) -> list[str]:
    """Return the names of the rules that one launch made for its machine: another of the same name may have its own there."""
    found = our_rules(client, machine)
    return [rule.name for rule in found if naming.from_description(rule.description).get("token") == token]


def our_rules(client: Client, machine: str = "") -> list[sdk.compute.Firewall]:
    """Return the firewall rules that we made, of one machine or of all."""
    expression = f"name eq {naming.PREFIX}{machine + '-' if machine else ''}.*"
    pages = client.pages("firewall rules", client.services.firewalls.list, expression)
    found = [rule for page in pages for rule in page.items]
    return [rule for rule in found if not machine or naming.machine_of_rule(rule.name) == machine]


def ensure_own_network(client: Client, region: str) -> None:
    """Make our own network where it is absent, and wait until a region has its part of one that another command makes.

    It is asked for before it is needed: a firewall rule in a network that does not exist is refused with 404, an instance with 400
    `invalid` ("The referenced network resource cannot be found": google/anthos-microk8s#1), as other faults of an instance are.
    """
    what = f"network {OWN_NETWORK}"
    try:
        found = client.ask(what, client.services.networks.get, network=OWN_NETWORK)
    except NotFoundError:
        return make_own_network(client, region)
    if found.auto_create_subnetworks and not _has_part(found, region):
        _await_part(client, what, region)
    return None


def make_own_network(client: Client, region: str) -> None:
    """Make our own network and wait until it is there in a region; one that another command makes meanwhile serves."""
    what = f"network {OWN_NETWORK}"
    network = sdk.compute.Network(
        name=OWN_NETWORK,
        auto_create_subnetworks=True,
        description="project=bakehouse",
        routing_config=sdk.compute.NetworkRoutingConfig(routing_mode="REGIONAL"),
    )
    try:
        finish(client, what, client.change(what, client.services.networks.insert_unary, network_resource=network))
    except ConflictError:
        _await_part(client, what, region)


def _await_part(client: Client, what: str, region: str) -> None:
    """Wait until our own network, which somebody else is making, has its part in a region."""
    try:
        until(
            lambda: _has_part(client.ask(what, client.services.networks.get, network=OWN_NETWORK), region),
            what=f"{what}: its part in {region}",
            timeout_s=_MADE_S,
            poll_max_s=5,
            sleep=client.sleep,
            clock=client.clock,
        )
    except TimedOutError as error:
        error.next_step = f"Look: gcloud compute networks subnets list --network {OWN_NETWORK}; or choose another --region."
        raise


def _has_part(network: sdk.compute.Network, region: str) -> bool:
    return any(f"/regions/{region}/" in link for link in network.subnetworks)


def reserved_address(client: Client, name: str, region: str, labels: Mapping[str, str]) -> str:
    """Return the reserved address of this name, reserved now when it is not there. ConflictError: a machine has it."""
    what, services = f"address {name}", client.services
    if not _ADDRESS_NAME.fullmatch(name):
        raise InvalidError(
            f"{what}: not a name for an address of Google Cloud",
            next_step="Give --static-ip lowercase letters, digits and hyphens, a letter first, such as notebook-1.",
        )
    try:
        found = client.ask(what, services.addresses.get, region=region, address=name)
    except NotFoundError:
        resource = sdk.compute.Address(name=name, description=naming.to_description(labels))
        finish(client, what, client.change(what, services.addresses.insert_unary, region=region, address_resource=resource))
        found = client.ask(what, services.addresses.get, region=region, address=name)
    if found.users:
        user = found.users[0].rpartition("/")[2]
        raise ConflictError(f"address {name} ({found.address}): in use by {user}", next_step="Choose another --static-ip.")
    return found.address


def source_range(places: Places, client: Client) -> str:
    """Return the address that may reach our machines, as CIDR: the one that is set, else that of this computer."""
    if places.source:
        return as_range(places.source)
    return "127.0.0.1/32" if client.endpoint else as_range(own_address())
