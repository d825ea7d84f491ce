"""Networks and subnetworks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from tests.servers.gce.catalog import REGIONS
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, bad_usage, invalid, required
from tests.servers.gce.links import found
from tests.servers.gce.operations import OperationError, Work
from tests.servers.gce.resources.firewalls import seed_default
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, name_of, parent_of, unlink
from tests.servers.vm import Done

AUTO_RANGES = {"us-central1": "10.128.0.0/20", "europe-west1": "10.132.0.0/20", "us-east1": "10.142.0.0/20"}


def seed(cloud: Cloud) -> None:
    """Make the network `default` with its rules, as each new project has it."""
    path = f"projects/{cloud.project}/global/networks/default"
    body = _network({"autoCreateSubnetworks": True, "description": "Default network for the project"})
    cloud.store.add(path, body, created=cloud.now_text())
    _add_auto_subnetworks(cloud, path)
    seed_default(cloud, path)


@serves("compute.networks.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    if "IPv4Range" in call.body:
        raise bad_usage("Legacy networks are no longer supported")
    path = f"{call.path}/{call.body['name']}"
    network = cloud.store.add(path, _network(call.body), created=cloud.now_text())

    def finish() -> None:
        if network["autoCreateSubnetworks"]:
            _add_auto_subnetworks(cloud, path)

    return cloud.begin(call, network, Work(finish=finish, undo=lambda: cloud.store.remove(path)))


def _network(body: Json) -> Json:
    kept: Json = {key: body[key] for key in ("description", "mtu") if key in body}
    routing = body.get("routingConfig") or {"routingMode": "REGIONAL"}
    return {
        "autoCreateSubnetworks": body.get("autoCreateSubnetworks", True),
        "subnetworks": [],
        "mtu": 1460,
        "routingConfig": routing,
        "networkFirewallPolicyEnforcementOrder": "AFTER_CLASSIC_FIREWALL",
        **kept,
    }


def _add_auto_subnetworks(cloud: Cloud, network: str) -> None:
    for region in REGIONS:
        path = f"projects/{cloud.project}/regions/{region}/subnetworks/{name_of(network)}"
        _add_subnetwork(cloud, path, network, {"ipCidrRange": AUTO_RANGES[region]})


def _add_subnetwork(cloud: Cloud, path: str, network: str, body: Json) -> Json:
    kept: Json = {key: body[key] for key in ("description", "privateIpGoogleAccess") if key in body}
    net = ipaddress.ip_network(body["ipCidrRange"])
    full: Json = {
        "network": link(network),
        "ipCidrRange": str(net),
        "gatewayAddress": str(net[1]),
        "region": link(parent_of(parent_of(path))),
        "privateIpGoogleAccess": False,
        "purpose": "PRIVATE",
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint(path),
        **kept,
    }
    subnetwork = cloud.store.add(path, full, created=cloud.now_text())
    cloud.store.get(network)["subnetworks"].append(subnetwork["selfLink"])
    return subnetwork


@serves("compute.networks.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    """Delete; that it is in use is told in the operation: https://github.com/kubernetes/kops/issues/13855."""
    network = cloud.store.get(call.path)
    path = unlink(network["selfLink"])

    def start() -> Done:
        for user in _users(cloud, network):
            message = _in_use("network", path, user).message
            raise OperationError("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", message, 400, "BAD REQUEST")
        return lambda: True

    def finish() -> None:
        for subnetwork in network["subnetworks"]:
            cloud.store.remove(unlink(subnetwork))
        cloud.store.remove(path)

    return cloud.begin(call, network, Work(start=start, finish=finish))


def _users(cloud: Cloud, network: Json) -> Iterator[str]:
    """Yield what keeps a network from being deleted; the subnetworks of an automatic one do not."""
    for collection in ("firewalls", "subnetworks"):
        for _, thing in cloud.store.everywhere(cloud.project, collection):
            if thing["network"] == network["selfLink"] and not (collection == "subnetworks" and network["autoCreateSubnetworks"]):
                yield unlink(thing["selfLink"])
    yield from _instances_in(cloud, "network", network["selfLink"])


def _instances_in(cloud: Cloud, field: str, url: str) -> Iterator[str]:
    for _, instance in cloud.store.everywhere(cloud.project, "instances"):
        if any(nic.get(field) == url for nic in instance["networkInterfaces"]):
            yield unlink(instance["selfLink"])


def _in_use(kind: str, path: str, user: str) -> ApiError:
    return ApiError(400, "resourceInUseByAnotherResource", f"The {kind} resource '{path}' is already being used by '{user}'")


@serves("compute.subnetworks.insert")
def insert_subnetwork(cloud: Cloud, call: Call) -> Json:
    body = call.body
    for field in ("network", "ipCidrRange"):
        if field not in body:
            raise required(f"resource.{field}")
    network = found(cloud.store, body["network"], "resource.network", project=cloud.project, collection="networks")
    if cloud.store.get(network)["autoCreateSubnetworks"]:
        raise invalid("resource.network", body["network"], "Cannot create a subnetwork in an auto mode network.")
    _check_range(cloud, network, body["ipCidrRange"])
    path = f"{call.path}/{body['name']}"
    subnetwork = _add_subnetwork(cloud, path, network, body)
    return cloud.begin(call, subnetwork, Work(finish=lambda: None, undo=lambda: _remove_subnetwork(cloud, subnetwork)))


def _check_range(cloud: Cloud, network: str, text: str) -> None:
    try:
        wanted = ipaddress.ip_network(text)
    except ValueError:
        raise invalid(
            "resource.ipCidrRange", text, "Must be a CIDR address range that is contained by the RFC 1918 ranges."
        ) from None
    for url in cloud.store.get(network)["subnetworks"]:
        other = cloud.store.get(unlink(url))
        if wanted.overlaps(ipaddress.ip_network(other["ipCidrRange"])):
            raise bad_usage(f"Invalid IPCidrRange: {text} conflicts with existing subnetwork '{other['name']}'")


def _remove_subnetwork(cloud: Cloud, subnetwork: Json) -> None:
    cloud.store.get(unlink(subnetwork["network"]))["subnetworks"].remove(subnetwork["selfLink"])
    cloud.store.remove(unlink(subnetwork["selfLink"]))


@serves("compute.subnetworks.delete")
def delete_subnetwork(cloud: Cloud, call: Call) -> Json:
    subnetwork = cloud.store.get(call.path)
    if cloud.store.get(unlink(subnetwork["network"]))["autoCreateSubnetworks"]:
        raise bad_usage("Cannot delete auto subnetwork from an auto subnet mode network")
    for user in _instances_in(cloud, "subnetwork", subnetwork["selfLink"]):
        raise _in_use("subnetwork", call.path, user)
    return cloud.begin(call, subnetwork, Work(finish=lambda: _remove_subnetwork(cloud, subnetwork)))
