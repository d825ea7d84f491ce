"""The disks of an instance: made with it, or attached to it."""

from __future__ import annotations

from tests.servers.gce import checks
from tests.servers.gce.catalog import usable_disk_types
from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import ApiError, Json, already_exists, bad_usage, in_use, required
from tests.servers.gce.resources import disks
from tests.servers.gce.resources.disks import DiskPlan
from tests.servers.gce.schema import Call
from tests.servers.gce.store import name_of, unlink

Planned = list[tuple[Json, DiskPlan | None]]
"""The disks as the request has them, each with the disk to make, if it is not there yet."""


def plan(cloud: Cloud, call: Call, machine_type: str) -> Planned:
    given = call.body["disks"]
    if sum(bool(disk.get("boot")) for disk in given) != 1 or not given[0].get("boot"):
        raise bad_usage("Exactly one boot disk must be specified, as the first disk")
    planned = [(disk, _plan_disk(cloud, call, disk, index, name_of(machine_type))) for index, disk in enumerate(given)]
    names = [plan.path for _, plan in planned if plan]
    for path in names:
        if path in cloud.store or names.count(path) > 1:
            raise already_exists(path)
    for disk, plan in planned:
        check_usable(plan.type if plan else _source_type(cloud, call, disk), machine_type)
    _check_architecture(cloud, planned, machine_type)
    return planned


def _source_type(cloud: Cloud, call: Call, disk: Json) -> str:
    return str(disks.by_reference(cloud, disk["source"], "", call["zone"])["type"])


def check_usable(disk_type: str, machine_type: str) -> None:
    """Refuse a disk type (path or URL) that a machine type cannot use: https://github.com/rancher/harvester-cloud/issues/249."""
    disk, machine = name_of(disk_type), name_of(machine_type)
    if disk not in usable_disk_types(machine):
        raise ApiError(400, "badRequest", f"{disk} disk type cannot be used by {machine} machine type.")


def _check_architecture(cloud: Cloud, planned: Planned, machine_type: str) -> None:
    plan = planned[0][1]
    if not plan or not plan.image:
        return
    image = cloud.store.get(plan.image).get("architecture", "X86_64")
    machine = cloud.store.get(unlink(machine_type))["architecture"]
    if image != machine:
        raise bad_usage(
            f"The requested boot disk architecture ({image}) is not compatible with the machine type architecture ({machine})"
        )


def _plan_disk(cloud: Cloud, call: Call, disk: Json, index: int, machine_type: str) -> DiskPlan | None:
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
        there = disks.by_reference(cloud, disk["source"], f"{field}.source", call["zone"], "disk")
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
        "type": params.get("diskType") or f"zones/{call['zone']}/diskTypes/{usable_disk_types(machine_type)[0]}",
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
    return disks.plan(cloud, call, name, wanted, fields, with_instance=True)


def attach(cloud: Cloud, instance: Json, given: Json, plan: DiskPlan | None, index: int) -> Json:
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
