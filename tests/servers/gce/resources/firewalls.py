"""Firewall rules, and what they let through."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

from tests.servers.gce import checks
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import Json, bad_usage, invalid, not_ready, required
from tests.servers.gce.links import found
from tests.servers.gce.operations import Work
from tests.servers.gce.schema import Call
from tests.servers.gce.store import link, unlink

DEFAULT_PRIORITY = 1000
PROTOCOLS = ("tcp", "udp", "icmp", "esp", "ah", "sctp", "ipip", "all")
_DEFAULTS: dict[str, Json] = {
    "default-allow-icmp": {"allowed": [{"IPProtocol": "icmp"}], "sourceRanges": ["0.0.0.0/0"]},
    "default-allow-internal": {
        "allowed": [
            {"IPProtocol": "tcp", "ports": ["0-65535"]},
            {"IPProtocol": "udp", "ports": ["0-65535"]},
            {"IPProtocol": "icmp"},
        ],
        "sourceRanges": ["10.128.0.0/9"],
    },
    "default-allow-rdp": {"allowed": [{"IPProtocol": "tcp", "ports": ["3389"]}], "sourceRanges": ["0.0.0.0/0"]},
    "default-allow-ssh": {"allowed": [{"IPProtocol": "tcp", "ports": ["22"]}], "sourceRanges": ["0.0.0.0/0"]},
}


def seed_default(cloud: Cloud, network: str) -> None:
    """Make the rules that the network `default` of each new project has; they open port 22 to the world."""
    for name, body in _DEFAULTS.items():
        path = f"projects/{cloud.project}/global/firewalls/{name}"
        cloud.store.add(path, {**_filled(body), "network": link(network), "priority": 65534}, created=cloud.now_text())


def is_being_made(network: Json) -> bool:
    """Say whether an automatic network has no subnetworks yet."""
    return bool(network["autoCreateSubnetworks"]) and not network["subnetworks"]


@serves("compute.firewalls.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    rule = _filled(call.body)
    reference = rule.get("network", "global/networks/default")
    network = found(cloud.store, reference, "resource.network", project=cloud.project, collection="networks")
    rule["network"] = link(network)
    _check(rule)
    if is_being_made(cloud.store.get(network)):
        raise not_ready(network)
    path = f"{call.path}/{call.body['name']}"
    thing = cloud.store.add(path, rule, created=cloud.now_text())
    return cloud.begin(call, thing, Work(finish=lambda: None, undo=lambda: cloud.store.remove(path)))


@serves("compute.firewalls.patch", "compute.firewalls.update")
def patch(cloud: Cloud, call: Call) -> Json:
    rule = cloud.store.get(call.path)
    changed = {**rule, **call.body}
    if "network" in call.body:
        network = found(cloud.store, call.body["network"], "resource.network", project=cloud.project, collection="networks")
        if link(network) != rule["network"]:
            raise invalid("resource.network", call.body["network"], "The network of a firewall cannot be changed.")
        changed["network"] = link(network)
    _check(changed)
    return cloud.begin(call, rule, Work(finish=lambda: rule.update(changed)))


@serves("compute.firewalls.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    rule = cloud.store.get(call.path)
    return cloud.begin(call, rule, Work(finish=lambda: cloud.store.remove(unlink(rule["selfLink"]))))


def _filled(body: Json) -> Json:
    rule: Json = {"priority": DEFAULT_PRIORITY, "direction": "INGRESS", "disabled": False, "logConfig": {"enable": False}, **body}
    if rule["direction"] == "INGRESS" and not rule.keys() & {"sourceRanges", "sourceTags", "sourceServiceAccounts"}:
        rule["sourceRanges"] = ["0.0.0.0/0"]
    return rule


def _check(rule: Json) -> None:
    if bool(rule.get("allowed")) == bool(rule.get("denied")):
        if rule.get("allowed"):
            raise bad_usage("Firewall cannot specify both allowed and denied")
        raise required("resource.allowed")
    if not 0 <= rule["priority"] <= 65535:
        raise invalid("resource.priority", rule["priority"], "Must be between 0 and 65535, inclusive.")
    if rule["direction"] == "EGRESS" and rule.keys() & {"sourceRanges", "sourceTags"}:
        raise bad_usage("Cannot specify sourceRanges or sourceTags for an EGRESS firewall")
    if rule["direction"] == "INGRESS" and "destinationRanges" in rule and "sourceTags" in rule:
        raise bad_usage("Cannot specify destinationRanges together with sourceTags")
    for field in ("sourceRanges", "destinationRanges"):
        _check_ranges(rule.get(field, []), f"resource.{field}")
    for field in ("sourceTags", "targetTags"):
        checks.tags({"items": rule.get(field, [])}, f"resource.{field}")
    kind = "allowed" if rule.get("allowed") else "denied"
    for index, item in enumerate(rule[kind]):
        _check_protocol(item, f"resource.{kind}[{index}]")


def _check_ranges(ranges: Iterable[str], field: str) -> None:
    for index, text in enumerate(ranges):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            raise invalid(f"{field}[{index}]", text, "Must be a CIDR address range or a single IP address.") from None


def _check_protocol(item: Json, field: str) -> None:
    protocol = item.get("IPProtocol")
    if not protocol:
        raise required(f"{field}.IPProtocol")
    if protocol.lower() not in PROTOCOLS and not (protocol.isdigit() and int(protocol) <= 255):
        raise invalid(f"{field}.IPProtocol", protocol, "Must be a well-known protocol string or an IP protocol number.")
    for index, text in enumerate(item.get("ports", [])):
        bounds = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
        if not bounds or not int(bounds[1]) <= int(bounds[2] or bounds[1]) <= 65535:
            raise invalid(f"{field}.ports[{index}]", text, "Must be an integer or a range of integers between 0 and 65535.")


def is_open(cloud: Cloud, instance: Json, port: int, source: str) -> bool:
    """Return whether an address may reach a TCP port: first by priority, a denial before an allowance; none means no."""
    network = instance["networkInterfaces"][0]["network"]
    rules = [rule for _, rule in cloud.store.everywhere(cloud.project, "firewalls") if rule["network"] == network]
    ordered = sorted(rules, key=lambda rule: (rule["priority"], "denied" not in rule))
    tags = set(instance.get("tags", {}).get("items", []))
    for rule in ordered:
        if rule["direction"] == "INGRESS" and not rule["disabled"] and _applies(rule, tags, port, source):
            return "allowed" in rule
    return False


def _applies(rule: Json, tags: set[str], port: int, source: str) -> bool:
    targets = rule.get("targetTags")
    if targets and not tags & set(targets):
        return False
    address = ipaddress.ip_address(source)
    ranges = (ipaddress.ip_network(text) for text in rule.get("sourceRanges", []))
    return any(address in net for net in ranges) and any(_covers(item, port) for item in rule.get("allowed") or rule["denied"])


def _covers(item: Json, port: int) -> bool:
    if item["IPProtocol"].lower() not in ("tcp", "6", "all"):
        return False
    bounds = (text.partition("-") for text in item.get("ports", ["0-65535"]))
    return any(int(low) <= port <= int(high or low) for low, _, high in bounds)
