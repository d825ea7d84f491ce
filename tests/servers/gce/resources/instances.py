"""Making and deleting instances."""

from __future__ import annotations

import itertools
from typing import Any

from tests.servers.gce import checks, quotas
from tests.servers.gce.catalog import ONLY_HYPERDISK, region_of
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, already_exists, bad_usage, in_use, invalid, not_ready, required
from tests.servers.gce.links import found
from tests.servers.gce.operations import Work
from tests.servers.gce.resources import addresses, disks, life
from tests.servers.gce.resources.disks import DiskPlan
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
_internal = itertools.count(2)


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
    nics = [_nic(cloud, call, nic, index) for index, nic in enumerate(body["networkInterfaces"])]
    planned = _plan_disks(cloud, call, checked["machineType"])
    _check_quotas(cloud, call, checked["machineType"], nics, planned)
    instance = cloud.store.add(path, {**checked, "networkInterfaces": _numbered(cloud, nics)}, created=cloud.now_text())
    instance["disks"] = [_attach(cloud, instance, given, plan, index) for index, (given, plan) in enumerate(planned)]
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
        forget(cloud, instance)
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
    machine = found(
        cloud.store, body["machineType"], "resource.machineType", project=cloud.project, collection="machineTypes", scope=scope
    )
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
        "scheduling": checks.scheduling(body.get("scheduling", {}), "resource.scheduling"),
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


def _nic(cloud: Cloud, call: Call, given: Json, index: int) -> Json:
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
        )
        return cloud.store.get(path)["network"], link(path)
    reference = given.get("network", "global/networks/default")
    network = cloud.store.get(found(cloud.store, reference, f"{field}.network", project=cloud.project, collection="networks"))
    if not network["autoCreateSubnetworks"]:
        why = "Network interface must specify a subnet if the network resource is in custom subnet mode."
        raise invalid(f"{field}.subnetwork", "", why)
    subnetwork = next((url for url in network["subnetworks"] if f"/regions/{region}/" in url), None)
    if subnetwork is None:  # the network is being made
        raise not_ready(unlink(network["selfLink"]))
    return network["selfLink"], subnetwork


def _numbered(cloud: Cloud, nics: list[Json]) -> list[Json]:
    for nic in nics:
        net = cloud.store.get(unlink(nic["subnetwork"]))["ipCidrRange"].rsplit(".", 1)[0]
        nic["networkIP"] = f"{net}.{next(_internal) % 250 + 2}"
        for config in nic.get("accessConfigs", []):
            if not config.get("natIP"):
                config["natIP"] = cloud.next_address()
    return nics


def _plan_disks(cloud: Cloud, call: Call, machine_type: str) -> list[tuple[Json, DiskPlan | None]]:
    given = call.body["disks"]
    if sum(bool(disk.get("boot")) for disk in given) != 1 or not given[0].get("boot"):
        raise bad_usage("Exactly one boot disk must be specified, as the first disk")
    planned = [(disk, _plan_disk(cloud, call, disk, index)) for index, disk in enumerate(given)]
    names = [plan.path for _, plan in planned if plan]
    for path in names:
        if path in cloud.store or names.count(path) > 1:
            raise already_exists(path)
    family = name_of(machine_type).split("-")[0]
    for _, plan in planned:
        if plan and family in ONLY_HYPERDISK and not name_of(plan.type).startswith("hyperdisk"):
            raise bad_usage(f"{name_of(plan.type)} disk type cannot be used by {name_of(machine_type)} machine type")
    _check_architecture(cloud, planned, machine_type)
    return planned


def _check_architecture(cloud: Cloud, planned: list[tuple[Json, DiskPlan | None]], machine_type: str) -> None:
    plan = planned[0][1]
    if not plan or not plan.image:
        return
    image = cloud.store.get(plan.image).get("architecture", "X86_64")
    machine = cloud.store.get(unlink(machine_type))["architecture"]
    if image != machine:
        raise bad_usage(
            f"The requested boot disk architecture ({image}) is not compatible with the machine type architecture ({machine})"
        )


def _plan_disk(cloud: Cloud, call: Call, disk: Json, index: int) -> DiskPlan | None:
    """Return the disk to make; None for one that is there, which is checked."""
    field = f"resource.disks[{index}]"
    params = disk.get("initializeParams")
    if ("source" in disk) == (params is not None):
        raise (
            bad_usage("Either source or initializeParams must be specified for a disk, and not both")
            if params
            else required(f"{field}.source")
        )
    if params is None:
        there = disks.by_reference(cloud, disk["source"], f"{field}.source", call["zone"])
        if users := disks.users_of(there):
            raise in_use("disk", unlink(there["selfLink"]), users[0])
        return None
    if disk.get("boot") and not params.get("sourceImage"):
        raise bad_usage("Boot disk must have a source specified")
    name = params.get("diskName") or (call.body["name"] if index == 0 else f"{call.body['name']}-{index}")
    checks.name(name, f"{field}.initializeParams.diskName")
    wanted = {
        "image": params.get("sourceImage"),
        "size": params.get("diskSizeGb") or disk.get("diskSizeGb"),
        "type": params.get("diskType"),
        "labels": params.get("labels", {}),
        "description": params.get("description", ""),
    }
    inner = f"{field}.initializeParams"
    fields = {
        "image": f"{inner}.sourceImage",
        "size": f"{inner}.diskSizeGb",
        "type": f"{inner}.diskType",
        "labels": f"{inner}.labels",
    }
    return disks.plan(cloud, call, name, wanted, fields)


def _check_quotas(
    cloud: Cloud, call: Call, machine_type: str, nics: list[Json], planned: list[tuple[Json, DiskPlan | None]]
) -> None:
    wanted: dict[str, float] = {"INSTANCES": 1, "CPUS": quotas.cpus(cloud, machine_type)}
    wanted["IN_USE_ADDRESSES"] = sum(len(nic.get("accessConfigs", [])) for nic in nics)
    for _, plan in planned:
        if plan:
            for metric, amount in quotas.disk_amount(name_of(plan.type), plan.size_gb).items():
                wanted[metric] = wanted.get(metric, 0) + amount
    quotas.check(cloud, region_of(call["zone"]), wanted)


def _attach(cloud: Cloud, instance: Json, given: Json, plan: DiskPlan | None, index: int) -> Json:
    """Make the disk, if it is to be made, and return how the instance shows it."""
    disk = (
        disks.create(cloud, plan)
        if plan
        else cloud.store.get(unlink(disks.by_reference(cloud, given["source"], "", name_of(instance["zone"]))["selfLink"]))
    )
    return attached(cloud, instance, disk, given, index)


def attached(cloud: Cloud, instance: Json, disk: Json, given: Json, index: int) -> Json:
    """Note the use in the disk, and return how the instance shows it."""
    disk.update(users=[instance["selfLink"]], lastAttachTimestamp=cloud.now_text())
    shown = {
        "kind": "compute#attachedDisk",
        "type": "PERSISTENT",
        "mode": given.get("mode", "READ_WRITE"),
        "source": disk["selfLink"],
        "deviceName": given.get("deviceName", f"persistent-disk-{index}"),
        "index": index,
        "boot": given.get("boot", False),
        "autoDelete": given.get("autoDelete", False),
        "interface": given.get("interface", "SCSI"),
        "diskSizeGb": disk["sizeGb"],
    }
    shown.update({key: disk[key] for key in ("licenses", "guestOsFeatures", "architecture") if key in disk})
    return shown


@serves("compute.instances.delete")
def delete(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(call.path)
    if instance["deletionProtection"]:
        raise bad_usage("Resource cannot be deleted if it's protected against deletion")
    return cloud.begin(call, instance, deletion(cloud, instance))


def deletion(cloud: Cloud, instance: Json) -> Work:
    path = unlink(instance["selfLink"])

    def begun() -> None:
        instance["status"] = "STOPPING"
        life.forget_run(cloud, instance)

    def finish() -> None:
        if path in cloud.store:
            forget(cloud, instance)

    return Work(begun=begun, start=lambda: cloud.vms.delete(path), finish=finish)


def forget(cloud: Cloud, instance: Json) -> None:
    """Take an instance out of the store, with the disks that go with it."""
    life.forget_run(cloud, instance)
    cloud.store.remove(unlink(instance["selfLink"]))
    addresses.release(cloud, instance, static=True)
    for shown in instance["disks"]:
        path = unlink(shown["source"])
        if path not in cloud.store:
            continue
        if shown["autoDelete"]:
            disks.remove(cloud, path)
        else:
            cloud.store.get(path).update(lastDetachTimestamp=cloud.now_text())
            cloud.store.get(path).pop("users", None)
