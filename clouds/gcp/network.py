"""Who can reach a machine: nobody, but the caller's own address at the ports that a machine was asked for.

In our own network nothing is let in that no rule allows. In a network that the user names there may be rules that let the
world in (the default network opens port 22); there a rule of higher priority than theirs first shuts each machine of ours.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from clouds import names
from clouds.driver import BootSpec
from clouds.errors import BakehouseError, CloudError, ConflictError, InvalidError, NotFoundError, TimedOutError, UsageError
from clouds.gcp import naming
from clouds.gcp.calls import Calls
from clouds.gcp.operations import finish
from clouds.gcp.places import OWN_NETWORK, Places
from clouds.waiter import until

SSH_PORT = 22
_ALLOW_PRIORITY, _DENY_PRIORITY = 800, 900
"""Before the 65534 of the default network's own rules, and before the 1000 that a rule has unless told otherwise."""
_WHO_AM_I = "https://checkip.amazonaws.com"
_WHO_AM_I_S = 10
_ADDRESS_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?")
"""The pattern of Address.name in the discovery document of compute v1."""
_MADE_S = 180
"""How long a network that another command makes may take."""


def rules(spec: BootSpec, places: Places, source: str) -> Iterator[dict[str, Any]]:
    """Yield the firewall rules that a machine needs, each for a tag of its own name."""
    ports = {"ssh": SSH_PORT if SSH_PORT in spec.ports else 0, "https": spec.wishes.https_port}
    for access, port in ports.items():
        if port:
            allowed = {"allowed": [{"IPProtocol": "tcp", "ports": [str(port)]}], "sourceRanges": [source]}
            yield _rule(spec, places, access, _ALLOW_PRIORITY) | allowed
    if not places.is_own_network:
        shut = {"denied": [{"IPProtocol": "all"}], "sourceRanges": ["0.0.0.0/0"]}
        yield _rule(spec, places, "shut", _DENY_PRIORITY) | shut


def _rule(spec: BootSpec, places: Places, access: str, priority: int) -> dict[str, Any]:
    name = naming.rule_name(spec.name, access)
    return {
        "name": name,
        "network": f"global/networks/{places.network}",
        "direction": "INGRESS",
        "priority": priority,
        "targetTags": [name],
        "description": naming.to_description({**spec.labels, "machine": spec.name}),
    }


def make_rules(
    calls: Calls, spec: BootSpec, wanted: Iterable[Mapping[str, Any]], is_taken: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Ask for rules and yield their operations; one of the same token, from an earlier try, serves.

    One that a dead command left is replaced. ConflictError: it belongs to another machine; `is_taken` says whether there is one of
    the name that is asked for.
    """
    for rule in wanted:
        what = f"machine {spec.name}: firewall rule {rule['name']}"
        try:
            yield _make_rule(calls, spec, rule, what, try_="")
        except ConflictError:
            if _must_replace(calls, spec, what, str(rule["name"]), is_taken):
                yield _make_rule(calls, spec, rule, what, try_="again")


def _make_rule(calls: Calls, spec: BootSpec, rule: Mapping[str, Any], what: str, *, try_: str) -> dict[str, Any]:
    request_id = naming.request_id(spec.token, str(rule["name"]), *([try_] if try_ else []))
    return calls.change(what, "global/firewalls", rule, request_id=request_id)


def _must_replace(calls: Calls, spec: BootSpec, what: str, rule: str, is_taken: Callable[[], bool]) -> bool:
    """Say whether a rule whose name was taken must be made anew, the old one being gone. ConflictError: it is another's."""
    try:
        labels = naming.from_description(calls.get(what, f"global/firewalls/{rule}").get("description", ""))
    except NotFoundError:
        return True
    if labels.get("token") == spec.token:
        return False
    if is_taken() or not names.client_is_dead(labels):
        raise ConflictError(
            f"machine {spec.name}: the name is taken: firewall rule {rule} belongs to another machine of that name",
            next_step="Choose another name. If there is no such machine, ./inv gc removes the rule.",
        )
    for operation in delete_rules(calls, [rule]):
        finish(calls, what, operation)
    return True


def delete_rules(calls: Calls, rule_names: Iterable[str]) -> list[dict[str, Any]]:
    """Ask for the removal of rules and return the operations; what is gone is gone."""
    operations = []
    for name in rule_names:
        try:
            operations.append(calls.change(f"firewall rule {name}", f"global/firewalls/{name}", method="DELETE"))
        except NotFoundError:
            continue
    return operations


def delete_made(calls: Calls, machine: str, operations: Iterable[dict[str, Any]], cause: Exception) -> None:
    """Remove the rules that these operations make, once they are made, and no other. `cause` is told of one that stays."""
    for operation in operations:
        rule = str(operation["targetLink"]).rpartition("/")[2]
        try:
            finish(calls, f"machine {machine}: firewall rule {rule}", operation)
            delete_rules(calls, [rule])
        except BakehouseError as error:
            cause.add_note(f"left behind: firewall rule {rule} ({error.message}); to remove it: ./inv gc")


def rules_of_token(calls: Calls, machine: str, token: str) -> list[str]:
    """Return the names of the rules that one launch made for its machine: another of the same name may have its own there."""
    found = our_rules(calls, machine)
    return [rule["name"] for rule in found if naming.from_description(rule.get("description", "")).get("token") == token]


def our_rules(calls: Calls, machine: str = "") -> list[dict[str, Any]]:
    """Return the firewall rules that we made, of one machine or of all."""
    expression = f"name eq {naming.PREFIX}{machine + '-' if machine else ''}.*"
    pages = calls.pages("firewall rules", "global/firewalls", expression)
    found = [rule for page in pages for rule in page.get("items", ())]
    return [rule for rule in found if not machine or naming.machine_of_rule(rule["name"]) == machine]


def ensure_own_network(calls: Calls, region: str) -> None:
    """Make our own network where it is absent, and wait until a region has its part of one that another command makes.

    It is asked for before it is needed: a firewall rule in a network that does not exist is refused with 404, an instance with 400
    `invalid` ("The referenced network resource cannot be found": google/anthos-microk8s#1), as other faults of an instance are.
    """
    what = f"network {OWN_NETWORK}"
    try:
        found = calls.get(what, f"global/networks/{OWN_NETWORK}")
    except NotFoundError:
        return make_own_network(calls, region)
    if found.get("autoCreateSubnetworks") and not _has_part(found, region):
        _await_part(calls, what, region)
    return None


def make_own_network(calls: Calls, region: str) -> None:
    """Make our own network and wait until it is there in a region; one that another command makes meanwhile serves."""
    what = f"network {OWN_NETWORK}"
    network = {
        "name": OWN_NETWORK,
        "autoCreateSubnetworks": True,
        "description": "project=bakehouse",
        "routingConfig": {"routingMode": "REGIONAL"},
    }
    try:
        finish(calls, what, calls.change(what, "global/networks", network))
    except ConflictError:
        _await_part(calls, what, region)


def _await_part(calls: Calls, what: str, region: str) -> None:
    """Wait until our own network, which somebody else is making, has its part in a region."""
    try:
        until(
            lambda: _has_part(calls.get(what, f"global/networks/{OWN_NETWORK}"), region),
            what=f"{what}: its part in {region}",
            timeout_s=_MADE_S,
            poll_max_s=5,
            sleep=calls.sleep,
            clock=calls.clock,
        )
    except TimedOutError as error:
        error.next_step = f"Look: gcloud compute networks subnets list --network {OWN_NETWORK}; or choose another --region."
        raise


def _has_part(network: Mapping[str, Any], region: str) -> bool:
    return any(f"/regions/{region}/" in link for link in network.get("subnetworks", ()))


def reserved_address(calls: Calls, name: str, region: str, labels: Mapping[str, str]) -> str:
    """Return the reserved address of this name, reserved now when it is not there. ConflictError: a machine has it."""
    what, path = f"address {name}", f"regions/{region}/addresses"
    if not _ADDRESS_NAME.fullmatch(name):
        raise InvalidError(
            f"{what}: not a name for an address of Google Cloud",
            next_step="Give --static-ip lowercase letters, digits and hyphens, a letter first, such as notebook-1.",
        )
    try:
        found = calls.get(what, f"{path}/{name}")
    except NotFoundError:
        resource = {"name": name, "description": naming.to_description(labels)}
        finish(calls, what, calls.change(what, path, resource))
        found = calls.get(what, f"{path}/{name}")
    if found.get("users"):
        user = found["users"][0].rpartition("/")[2]
        raise ConflictError(f"address {name} ({found['address']}): in use by {user}", next_step="Choose another --static-ip.")
    return str(found["address"])


def source_range(places: Places, calls: Calls) -> str:
    """Return the address that may reach our machines, as CIDR: the one that is set, else that of this computer."""
    if places.source:
        return _as_range(places.source)
    return "127.0.0.1/32" if calls.endpoint else _as_range(_own_address())


def _own_address() -> str:
    try:
        with urlopen(_WHO_AM_I, timeout=_WHO_AM_I_S) as answer:
            return str(answer.read(64).decode("ascii").strip())
    except (URLError, OSError, UnicodeDecodeError) as error:
        raise CloudError(
            f"the address of this computer, to which the firewall is opened, was not found out ({_WHO_AM_I} does not answer)",
            next_step="Give it: --source 203.0.113.7",
        ) from error


def _as_range(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise UsageError(f"source {text!r}: not an address", next_step="Write it as 203.0.113.7 or 203.0.113.0/24.") from None
