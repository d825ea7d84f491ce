"""Changes to an instance that is there."""

from __future__ import annotations

from tests.servers.gce import checks
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, bad_usage, in_use, invalid, required, stale
from tests.servers.gce.links import machine_type_path
from tests.servers.gce.operations import OperationError, Work
from tests.servers.gce.resources import disks
from tests.servers.gce.resources.drives import attached, check_usable
from tests.servers.gce.schema import Call
from tests.servers.gce.store import fingerprint, link, name_of, parent_of, unlink


@serves("compute.instances.setMetadata")
def set_metadata(cloud: Cloud, call: Call) -> Json:
    checks.metadata(call.body, "resource")
    return _replace(cloud, call, "metadata")


@serves("compute.instances.setTags")
def set_tags(cloud: Cloud, call: Call) -> Json:
    checks.tags(call.body, "resource")
    return _replace(cloud, call, "tags")


def _replace(cloud: Cloud, call: Call, part: str) -> Json:
    """Replace all items; the fingerprint must be that of those that are there.

    Another change meanwhile is told in the operation: https://github.com/cloudfoundry/bosh-google-cpi-release/issues/159.
    """
    instance = cloud.store.get(parent_of(call.path))
    if call.body.get("fingerprint") != instance[part]["fingerprint"]:
        raise stale(part)
    items = call.body.get("items", [])

    def finish() -> None:
        if call.body["fingerprint"] != instance[part]["fingerprint"]:
            raise OperationError("CONDITION_NOT_MET", stale(part).message, 412, "PRECONDITION FAILED")
        instance[part].pop("items", None)
        instance[part].update({"items": items} if items else {}, fingerprint=fingerprint(items))

    return cloud.begin(call, instance, Work(finish=finish))


@serves("compute.instances.setScheduling")
def set_scheduling(cloud: Cloud, call: Call) -> Json:
    """Change the scheduling; that of a running instance may change but in part.

    The discovery document wants the instance TERMINATED; Terraform changes maintenance and restart on a running one
    (https://github.com/hashicorp/terraform-provider-google, schedulingHasChangeWithoutReboot), but not the run duration.
    What is not sent stays, what is null goes: gcloud sends what its flags name, and a null for each --clear flag
    (surface/compute/instances/set_scheduling.py of the Google Cloud SDK).
    """
    instance = cloud.store.get(parent_of(call.path))
    kept = {key: value for key, value in instance["scheduling"].items() if key not in call.cleared}
    changed = checks.scheduling({**kept, **call.body}, "resource")
    if changed["provisioningModel"] != instance["scheduling"]["provisioningModel"]:
        raise bad_usage("Cannot change the provisioning model of an instance")
    is_new = changed.get("maxRunDuration") != instance["scheduling"].get("maxRunDuration")
    if is_new and instance["status"] != "TERMINATED":
        # users quote the text of gcloud compute instances set-scheduling; the reason is a guess
        raise ApiError(400, "badRequest", "Max run duration cannot be changed while the instance is running.")
    return cloud.begin(call, instance, Work(finish=lambda: instance.update(scheduling=changed)))


@serves("compute.instances.setMachineType")
def set_machine_type(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(parent_of(call.path))
    path = machine_type_path(cloud.store, call.body.get("machineType", ""), project=cloud.project, zone=call["zone"])
    if instance["status"] != "TERMINATED":
        raise bad_usage("Instance should be in the STOPPED state.")
    return cloud.begin(call, instance, Work(finish=lambda: instance.update(machineType=link(path))))


@serves("compute.instances.setDeletionProtection")
def set_deletion_protection(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(parent_of(call.path))
    protect = call.params.get("deletionProtection", True)
    return cloud.begin(call, instance, Work(finish=lambda: instance.update(deletionProtection=protect)))


@serves("compute.instances.setDiskAutoDelete")
def set_disk_auto_delete(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(parent_of(call.path))
    shown = _shown(instance, call["deviceName"])
    auto = call.params["autoDelete"]
    return cloud.begin(call, instance, Work(finish=lambda: shown.update(autoDelete=auto)))


@serves("compute.instances.attachDisk")
def attach_disk(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(parent_of(call.path))
    if "source" not in call.body:
        raise required("resource.source")
    disk = disks.by_reference(cloud, call.body["source"], "resource.source", call["zone"])
    if users := disks.users_of(disk):
        raise in_use("disk", unlink(disk["selfLink"]), users[0])
    check_usable(disk["type"], instance["machineType"])
    device = call.body.get("deviceName")
    if device and any(shown["deviceName"] == device for shown in instance["disks"]):
        raise invalid("resource.deviceName", device, "Device name is already in use.")
    index = max((shown["index"] for shown in instance["disks"]), default=-1) + 1
    shown = attached(cloud, instance, disk, call.body, index)
    return cloud.begin(call, instance, Work(finish=lambda: instance["disks"].append(shown), undo=lambda: disk.pop("users", None)))


@serves("compute.instances.detachDisk")
def detach_disk(cloud: Cloud, call: Call) -> Json:
    instance = cloud.store.get(parent_of(call.path))
    shown = _shown(instance, call["deviceName"])
    if shown["boot"] and instance["status"] != "TERMINATED":
        raise bad_usage(f"Cannot detach boot disk '{name_of(shown['source'])}' from an instance that is not stopped")

    def finish() -> None:
        instance["disks"].remove(shown)
        disk = cloud.store.get(unlink(shown["source"]))
        disk.pop("users", None)
        disk["lastDetachTimestamp"] = cloud.now_text()

    return cloud.begin(call, instance, Work(finish=finish))


def _shown(instance: Json, device: str) -> Json:
    disks_shown: list[Json] = instance["disks"]
    for shown in disks_shown:
        if shown["deviceName"] == device:
            return shown
    raise invalid("deviceName", device, f"No attached disk found with device name '{device}'")
