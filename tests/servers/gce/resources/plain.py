"""Methods that are the same for every resource: get, list, aggregatedList, setLabels; and the operations' own."""

from __future__ import annotations

import time

from tests.servers.gce import checks
from tests.servers.gce.catalog import REGIONS, ZONES
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import Json, backend_error, stale_labels
from tests.servers.gce.listing import aggregated_page, page
from tests.servers.gce.operations import Work
from tests.servers.gce.quotas import usage
from tests.servers.gce.schema import Call
from tests.servers.gce.store import KINDS, fingerprint, link, parent_of

WAIT_S = 120.0

_ZONAL = ("instances", "disks", "machineTypes", "diskTypes", "acceleratorTypes")
_REGIONAL = ("addresses", "subnetworks")
_GLOBAL = ("images", "firewalls", "networks", "zones")
_OPERATIONS = ("zoneOperations", "regionOperations", "globalOperations")


@serves(*(f"compute.{kind}.get" for kind in (*_ZONAL, *_REGIONAL, *_GLOBAL, *_OPERATIONS)))
def get(cloud: Cloud, call: Call) -> Json:
    return cloud.store.get(call.path)


@serves(*(f"compute.{kind}.list" for kind in (*_ZONAL, *_REGIONAL, *_GLOBAL, *_OPERATIONS)))
def list_(cloud: Cloud, call: Call) -> Json:
    return page(call, KINDS[_collection(call)], cloud.store.children(call.path))


@serves(*(f"compute.{kind}.aggregatedList" for kind in (*_ZONAL, *_REGIONAL, "globalOperations")))
def aggregated_list(cloud: Cloud, call: Call) -> Json:
    zones, regions = [f"zones/{zone}" for zone in ZONES], [f"regions/{region}" for region in REGIONS]
    scopes = zones if call.collection in _ZONAL else regions
    if call.collection in ("globalOperations", "addresses"):
        scopes = ["global", *regions, *(zones if call.collection == "globalOperations" else [])]
    things = list(cloud.store.everywhere(call["project"], _collection(call)))
    return aggregated_page(call, KINDS[_collection(call)], sorted(scopes), things, _unreachable(cloud, call, scopes))


def _unreachable(cloud: Cloud, call: Call, scopes: list[str]) -> list[str]:
    """Return the scopes that a list must leave out; raises ApiError 503 for a caller who does not take part of a list.

    The discovery document says of each aggregatedList: "To prevent failure, it is recommended that you set the
    `returnPartialSuccess` parameter to `true`"; that the failure is a 503 is a guess.
    """
    switches = cloud.switches
    left_out = {f"zones/{zone}" for zone in switches.unreachable_zones | switches.unlisted_zones} & set(scopes)
    if left_out and not (switches.lists_are_partial or call.params.get("returnPartialSuccess")):
        raise backend_error()
    return sorted(left_out)


@serves("compute.regions.get")
def get_region(cloud: Cloud, call: Call) -> Json:
    return _with_quotas(cloud, cloud.store.get(call.path))


@serves("compute.regions.list")
def list_regions(cloud: Cloud, call: Call) -> Json:
    return page(call, KINDS["regions"], [_with_quotas(cloud, region) for region in cloud.store.children(call.path)])


def _with_quotas(cloud: Cloud, region: Json) -> Json:
    name = region["name"]
    used = usage(cloud, name)
    return {
        **region,
        "quotas": [
            {"metric": metric, "limit": limit, "usage": used.get(metric, 0)} for metric, limit in cloud.quotas[name].items()
        ],
    }


@serves("compute.projects.get")
def get_project(cloud: Cloud, call: Call) -> Json:
    return {
        "kind": "compute#project",
        "id": "1234567890123456789",
        "creationTimestamp": "2026-01-01T00:00:00.000-08:00",
        "name": cloud.project,
        "commonInstanceMetadata": {"kind": "compute#metadata", "fingerprint": fingerprint([])},
        "defaultServiceAccount": "123456789012-compute@developer.gserviceaccount.com",
        "defaultNetworkTier": "PREMIUM",
        "xpnProjectStatus": "UNSPECIFIED_XPN_PROJECT_STATUS",
        "selfLink": link(f"projects/{cloud.project}"),
        "quotas": [{"metric": "NETWORKS", "limit": 5, "usage": 1}],
    }


@serves("compute.instances.setLabels", "compute.disks.setLabels", "compute.images.setLabels", "compute.addresses.setLabels")
def set_labels(cloud: Cloud, call: Call) -> Json:
    """Replace all labels; the fingerprint must be that of the labels that are there."""
    thing = cloud.store.get(parent_of(call.path))
    new = call.body.get("labels", {})
    checks.labels(new, "resource.labels")
    if call.body.get("labelFingerprint") != thing["labelFingerprint"]:
        raise stale_labels()

    def finish() -> None:
        thing.pop("labels", None)
        thing.update({"labels": new} if new else {}, labelFingerprint=fingerprint(new))

    return cloud.begin(call, thing, Work(finish=finish))


@serves(*(f"compute.{kind}.wait" for kind in _OPERATIONS))
def wait(cloud: Cloud, call: Call) -> Json:
    """Return the operation when it is done, or as it is after two minutes (of the wall clock).

    The discovery document: an overloaded server "might return after zero seconds", with an operation that still runs.
    """
    operation = cloud.store.get(parent_of(call.path))
    give_up_at = time.monotonic() + (0 if cloud.switches.wait_returns_at_once else WAIT_S)
    while operation["status"] != "DONE" and time.monotonic() < give_up_at:
        pause_s = cloud.engine.pause_s()
        cloud.lock.release()
        try:
            time.sleep(pause_s)
        finally:
            cloud.lock.acquire()
        cloud.check_reachable(call)
        cloud.engine.settle()
    return operation


@serves(*(f"compute.{kind}.delete" for kind in _OPERATIONS))
def delete_operation(cloud: Cloud, call: Call) -> Json:
    cloud.store.get(call.path)
    cloud.store.remove(call.path)
    return {}


def _collection(call: Call) -> str:
    return "operations" if call.collection in _OPERATIONS else call.collection
