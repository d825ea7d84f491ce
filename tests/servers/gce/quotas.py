"""Quotas by region: what is used, and refusing what would be too much."""

from __future__ import annotations

from tests.servers.gce.catalog import region_of
from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import quota_exceeded
from tests.servers.gce.store import name_of, unlink

_SSD = ("pd-ssd", "pd-balanced")


def usage(cloud: Cloud, region: str) -> dict[str, float]:
    """Return what a region's resources use, by metric."""
    used = dict.fromkeys(cloud.quotas[region], 0.0)
    for collection in ("instances", "disks", "addresses"):
        for scope, thing in cloud.store.everywhere(cloud.project, collection):
            place = scope.split("/")[-1]
            if region in (place, region_of(place)):
                for metric, amount in _amounts(cloud, collection, thing).items():
                    used[metric] = used.get(metric, 0.0) + amount
    return used


def check(cloud: Cloud, region: str, wanted: dict[str, float]) -> None:
    """Raise ApiError 403 when a region's quota does not suffice."""
    used = usage(cloud, region)
    for metric, amount in wanted.items():
        limit = cloud.quotas[region].get(metric)
        if limit is not None and amount and used[metric] + amount > limit:
            raise quota_exceeded(metric, limit, region)


def disk_amount(disk_type: str, size_gb: int) -> dict[str, float]:
    return {"SSD_TOTAL_GB" if disk_type in _SSD else "DISKS_TOTAL_GB": size_gb}


def _amounts(cloud: Cloud, collection: str, thing: dict[str, object]) -> dict[str, float]:
    if collection == "disks":
        return disk_amount(name_of(str(thing["type"])), int(str(thing["sizeGb"])))
    if collection == "addresses":
        return {"STATIC_ADDRESSES": 1}
    if thing["status"] in ("TERMINATED", "SUSPENDED"):
        return {"INSTANCES": 1}
    return {"INSTANCES": 1, "CPUS": cpus(cloud, str(thing["machineType"])), "IN_USE_ADDRESSES": len(external_addresses(thing))}


def cpus(cloud: Cloud, machine_type: str) -> int:
    return int(cloud.store.get(unlink(machine_type))["guestCpus"])


def external_addresses(instance: dict[str, object]) -> list[str]:
    nics = instance.get("networkInterfaces", [])
    assert isinstance(nics, list)
    return [config["natIP"] for nic in nics for config in nic.get("accessConfigs", []) if "natIP" in config]
