"""The network interfaces of a new instance."""

from __future__ import annotations

import itertools

from tests.servers.gce.catalog import region_of
from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import Json, external_address_forbidden, invalid, not_ready
from tests.servers.gce.links import found
from tests.servers.gce.resources import addresses
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, unlink

_internal = itertools.count(2)


def plan(cloud: Cloud, call: Call, given: Json, index: int) -> Json:
    """Return a network interface, without addresses as yet."""
    field, region = f"resource.networkInterfaces[{index}]", region_of(call["zone"])
    network, subnetwork = _network_of(cloud, given, field, region)
    nic: Json = {
        "kind": "compute#networkInterface",
        "name": f"nic{index}",
        "network": network,
        "subnetwork": subnetwork,
        "stackType": "IPV4_ONLY",
        "fingerprint": fingerprint([field, subnetwork]),
    }
    if "nicType" in given:
        nic["nicType"] = given["nicType"]
    configs = given.get("accessConfigs", [])
    if configs and cloud.switches.forbids_external_addresses:
        raise external_address_forbidden(f"{call.path}/{call.body['name']}")
    if len(configs) > 1:
        raise invalid(f"{field}.accessConfigs", len(configs), "At most one access config currently supported.")
    for config in configs:
        full = {
            "kind": "compute#accessConfig",
            "type": "ONE_TO_ONE_NAT",
            "name": "external-nat",
            "networkTier": "PREMIUM",
            **config,
        }
        if "natIP" in config:
            addresses.take(cloud, config["natIP"], f"{field}.accessConfigs[0].natIP", region)
        nic["accessConfigs"] = [full]
    return nic


def _network_of(cloud: Cloud, given: Json, field: str, region: str) -> tuple[str, str]:
    """Return the links of network and subnetwork; either may be given, in an automatic network."""
    if "subnetwork" in given:
        path = found(
            cloud.store,
            given["subnetwork"],
            f"{field}.subnetwork",
            project=cloud.project,
            collection="subnetworks",
            scope=f"regions/{region}",
            absent_kind="subnetwork",
        )
        return cloud.store.get(path)["network"], link(path)
    reference = given.get("network", "global/networks/default")
    path = found(cloud.store, reference, f"{field}.network", project=cloud.project, collection="networks", absent_kind="network")
    network = cloud.store.get(path)
    if not network["autoCreateSubnetworks"]:
        raise invalid(field, "", "Subnetwork should be specified for custom subnetmode network")
    subnetwork = next((url for url in network["subnetworks"] if f"/regions/{region}/" in url), None)
    if subnetwork is None:  # the network is being made
        raise not_ready(unlink(network["selfLink"]))
    return network["selfLink"], subnetwork


def numbered(cloud: Cloud, nics: list[Json]) -> list[Json]:
    for nic in nics:
        net = cloud.store.get(unlink(nic["subnetwork"]))["ipCidrRange"].rsplit(".", 1)[0]
        nic["networkIP"] = f"{net}.{next(_internal) % 250 + 2}"
        for config in nic.get("accessConfigs", []):
            if not config.get("natIP"):
                config["natIP"] = cloud.next_address()
    return nics
