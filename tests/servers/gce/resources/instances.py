"""Making and deleting instances."""

from __future__ import annotations

from typing import Any

from tests.servers.gce import checks, quotas
from tests.servers.gce.catalog import region_of
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, already_exists, bad_usage, invalid, required
from tests.servers.gce.links import machine_type_path
from tests.servers.gce.operations import Work
from tests.servers.gce.resources import addresses, disks, drives, life, nics
from tests.servers.gce.resources.disks import DiskPlan
from tests.servers.gce.resources.drives import Planned
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, name_of, unlink

_KEPT = (
    "description",
    "canIpForward",
    "hostname",
    "shieldedInstanceConfig",
    "minCpuPlatform",
    "guestAccelerators",
    "reservationAffinity",
    "confidentialInstanceConfig",
    "displayDevice",
    "keyRevocationActionType",
    "resourcePolicies",
)


@serves("compute.instances.insert")
def insert(cloud: Cloud, call: Call) -> Json:
    body = call.body
    path = f"{call.path}/{body['name']}"
    for parameter in ("sourceInstanceTemplate", "sourceMachineImage"):
        if parameter in call.params:
            raise ApiError(501, "notImplemented", f"{parameter} is not served by this test server")
    checked = _checked(cloud, call)
    if path in cloud.store:
        raise already_exists(path)
    interfaces = [nics.plan(cloud, call, nic, index) for index, nic in enumerate(body["networkInterfaces"])]
    planned = drives.plan(cloud, call, checked["machineType"])
    _check_quotas(cloud, call, checked["machineType"], interfaces, planned)
    instance = cloud.store.add(path, {**checked, "networkInterfaces": nics.numbered(cloud, interfaces)}, created=cloud.now_text())
    instance["disks"] = [drives.attach(cloud, instance, given, plan, index) for index, (given, plan) in enumerate(planned)]
    addresses.mark(cloud, instance)
    return cloud.begin(call, instance, _work(cloud, instance, [plan for _, plan in planned if plan]))


def _work(cloud: Cloud, instance: Json, made: list[DiskPlan]) -> Work:
    def start() -> Any:
        for plan in made:
            cloud.store.get(plan.path)["status"] = "READY"
        making = [cloud.vms.create_disk(plan.path, plan.size_gb, plan.image) for plan in made]
        booting: list[Any] = []

        def done() -> bool:
            if not all(is_made() for is_made in making):
                return False
            if not booting:
                booting.append(life.boot(cloud, instance))
            return bool(booting[0]())

        return done

    def undo() -> None:
        cloud.vms.delete(unlink(instance["selfLink"]))
        life.forget(cloud, instance)
        for plan in made:
            disks.remove(cloud, plan.path)

    return Work(
        begun=lambda: instance.update(status="STAGING"),
        start=start,
        finish=lambda: life.mark_running(cloud, instance),
        undo=undo,
    )


def _checked(cloud: Cloud, call: Call) -> Json:
    """Return the parts of a new instance that depend on nothing else, checked and filled."""
    body = call.body
    for field in ("machineType", "disks", "networkInterfaces"):
        if not body.get(field):
            raise (
                required(f"resource.{field}")
                if field != "machineType"
                else invalid("resource.machineType", "", "The URL is malformed.")
            )
    checks.labels(body.get("labels", {}), "resource.labels")
    checks.metadata(body.get("metadata", {}), "resource.metadata")
    checks.tags(body.get("tags", {}), "resource.tags")
    scope = f"zones/{call['zone']}"
    machine = machine_type_path(cloud.store, body["machineType"], project=cloud.project, zone=call["zone"])
    has_gpus = bool(body.get("guestAccelerators") or cloud.store.get(machine).get("accelerators"))
    metadata, tags = body.get("metadata", {}), body.get("tags", {})
    return {
        **{key: body[key] for key in _KEPT if key in body},
        **({"labels": body["labels"]} if body.get("labels") else {}),
        "status": "PROVISIONING",
        "machineType": link(machine),
        "zone": link(f"projects/{cloud.project}/{scope}"),
        "metadata": {"kind": "compute#metadata", "fingerprint": fingerprint(metadata.get("items", [])), **_items(metadata)},
        "tags": {"fingerprint": fingerprint(tags.get("items", [])), **_items(tags)},
        "labelFingerprint": fingerprint(body.get("labels", {})),
        "scheduling": checks.scheduling(body.get("scheduling", {}), "resource.scheduling", has_gpus=has_gpus),
        "serviceAccounts": _service_accounts(body.get("serviceAccounts", [])),
        "deletionProtection": body.get("deletionProtection", False),
        "startRestricted": False,
        "cpuPlatform": "Intel Broadwell",
        "fingerprint": fingerprint(body),
    }


def _items(found_: Json) -> Json:
    return {"items": found_["items"]} if found_.get("items") else {}


def _service_accounts(given: list[Json]) -> list[Json]:
    if len(given) > 1:
        raise bad_usage("At most one service account can be specified")
    for account in given:
        if "@" not in account.get("email", "") and account.get("email") != "default":
            raise invalid("resource.serviceAccounts[0].email", account.get("email", ""), "Must be an email address or 'default'.")
    default = "123456789012-compute@developer.gserviceaccount.com"
    return [{**account, "email": default if account["email"] == "default" else account["email"]} for account in given]


def _check_quotas(cloud: Cloud, call: Call, machine_type: str, interfaces: list[Json], planned: Planned) -> None:
    wanted: dict[str, float] = {"INSTANCES": 1, "CPUS": quotas.cpus(cloud, machine_type)}
    wanted["IN_USE_ADDRESSES"] = sum(len(nic.get("accessConfigs", [])) for nic in interfaces)
    for _, plan in planned:
        if plan:
            for metric, amount in quotas.disk_amount(name_of(plan.type), plan.size_gb).items():
                wanted[metric] = wanted.get(metric, 0) + amount
    quotas.check(cloud, region_of(call["zone"]), wanted)


@serves("compute.instances.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(call.path)
    if instance["deletionProtection"]:
        raise bad_usage("Resource cannot be deleted if it's protected against deletion.")
    return cloud.begin(call, instance, life.deletion(cloud, instance))
