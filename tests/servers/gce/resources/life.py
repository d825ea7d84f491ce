"""The life of an instance: start, stop, suspend, resume, reset; and how it ends without being told to."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.engine import timestamp
from tests.servers.gce.cloud import Cloud, serves
from tests.servers.gce.errors import ApiError, Json, bad_usage, not_ready
from tests.servers.gce.operations import Work
from tests.servers.gce.resources import addresses, disks, shutdown
from tests.servers.gce.schema import Call
from tests.servers.gce.store import name_of, parent_of, unlink
from tests.servers.vm import Done, Drive, Vm


def vm_of(cloud: Cloud, instance: Json) -> Vm:
    """Return an instance as the machine behind it sees it."""
    machine = cloud.store.get(unlink(instance["machineType"]))
    configs = instance["networkInterfaces"][0].get("accessConfigs", [{}])
    return Vm(
        id=unlink(instance["selfLink"]),
        name=instance["name"],
        zone=name_of(instance["zone"]),
        cpus=machine["guestCpus"],
        memory_mb=machine["memoryMb"],
        metadata={item["key"]: item.get("value", "") for item in instance["metadata"].get("items", [])},
        labels=dict(instance.get("labels", {})),
        tags=tuple(instance["tags"].get("items", [])),
        drives=tuple(_drive(cloud, shown) for shown in instance["disks"]),
        address=configs[0].get("natIP", ""),
        spot=instance["scheduling"]["provisioningModel"] == "SPOT",
    )


def _drive(cloud: Cloud, shown: Json) -> Drive:
    disk = cloud.store.get(unlink(shown["source"]))
    image = unlink(disk.get("sourceImage", ""))
    return Drive(id=unlink(shown["source"]), size_gb=int(disk["sizeGb"]), boot=shown["boot"], image=image)


def boot(cloud: Cloud, instance: Json) -> Done:
    """Power the machine on."""
    cloud.runs[unlink(instance["selfLink"])] = next(cloud.run_numbers)
    return cloud.vms.start(vm_of(cloud, instance))


def mark_running(cloud: Cloud, instance: Json) -> None:
    """Note that a machine is on, and when it must end; it may have gone off already."""
    path = unlink(instance["selfLink"])
    if path not in cloud.store or path not in cloud.runs:
        return
    instance.update(status="RUNNING", lastStartTimestamp=cloud.now_text())
    _limit_run(cloud, instance)


def _limit_run(cloud: Cloud, instance: Json) -> None:
    """Set when a run must end; each entry into RUNNING sets it anew, a stop or a suspension clears it.

    https://cloud.google.com/compute/docs/instances/limit-vm-runtime
    """
    path = unlink(instance["selfLink"])
    limit = instance["scheduling"].get("maxRunDuration")
    if limit:
        seconds, run = int(limit["seconds"]), cloud.runs[path]
        instance.setdefault("resourceStatus", {}).setdefault("scheduling", {})["terminationTimestamp"] = timestamp(
            cloud.engine.now() + seconds
        )
        cloud.engine.after(seconds, lambda: _expire(cloud, instance, run))


def _lift_limit(cloud: Cloud, instance: Json) -> None:
    cloud.runs[unlink(instance["selfLink"])] = next(cloud.run_numbers)
    instance.pop("resourceStatus", None)


def forget_run(cloud: Cloud, instance: Json) -> None:
    """Note that the machine is going off: what was to happen to this run no longer does."""
    cloud.runs.pop(unlink(instance["selfLink"]), None)


def _expire(cloud: Cloud, instance: Json, run: int) -> None:
    if cloud.runs.get(unlink(instance["selfLink"])) == run:
        end_by_system(cloud, instance, "compute.instances.stop", instance["scheduling"]["instanceTerminationAction"])


def preempt(cloud: Cloud, instance: Json) -> None:
    """Take a Spot machine away."""
    assert instance["scheduling"]["provisioningModel"] == "SPOT", f"{instance['name']} is no Spot VM"
    assert instance["status"] == "RUNNING", f"{instance['name']} is {instance['status']}"
    end_by_system(cloud, instance, "compute.instances.preempted", instance["scheduling"]["instanceTerminationAction"])


def end_by_system(cloud: Cloud, instance: Json, operation_type: str, action: str) -> None:
    """Begin a system operation that stops or deletes an instance."""
    if action == "DELETE":
        work = deletion(cloud, instance)
        if operation_type == "compute.instances.stop":
            operation_type = "compute.instances.delete"
    else:
        work = stopping(cloud, instance)
    operation = cloud.operations.begin(None, instance, work, operationType=operation_type)
    operation["user"] = "system"
    operation["statusMessage"] = "Instance was preempted." if "preempted" in operation_type else "Instance reached its time limit."


def ended(cloud: Cloud, path: str) -> None:
    """Note that a guest has powered itself off."""
    if path not in cloud.store or path not in cloud.runs:
        return
    instance = cloud.store.get(path)
    work = stopping(cloud, instance)
    operation = cloud.operations.begin(None, instance, work, operationType="compute.instances.guestTerminate")
    operation.update(user="system", statusMessage="Instance terminated by guest OS shutdown.")
    instance["status"] = "STOPPING"
    forget_run(cloud, instance)


def stopping(cloud: Cloud, instance: Json) -> Work:
    path = unlink(instance["selfLink"])

    def begun() -> None:
        shutdown.begin(cloud, instance)
        forget_run(cloud, instance)
        if path in cloud.store and instance["status"] != "TERMINATED":
            instance["status"] = "STOPPING"

    def finish() -> None:
        cloud.guest_off_at.pop(path, None)
        if path in cloud.store:
            instance.update(status="TERMINATED", lastStopTimestamp=cloud.now_text())
            instance.pop("resourceStatus", None)
            addresses.release(cloud, instance, static=False)

    return Work(begun=begun, start=lambda: shutdown.then(cloud, path, lambda: cloud.vms.stop(path)), finish=finish)


def deletion(cloud: Cloud, instance: Json) -> Work:
    path = unlink(instance["selfLink"])

    def begun() -> None:
        shutdown.begin(cloud, instance)
        instance["status"] = "STOPPING"
        forget_run(cloud, instance)

    def finish() -> None:
        if path in cloud.store:
            forget(cloud, instance)

    return Work(begun=begun, start=lambda: shutdown.then(cloud, path, lambda: cloud.vms.delete(path)), finish=finish)


def forget(cloud: Cloud, instance: Json) -> None:
    """Take an instance out of the store, with the disks that go with it."""
    forget_run(cloud, instance)
    cloud.guest_off_at.pop(unlink(instance["selfLink"]), None)
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


@serves("compute.instances.stop")
def stop(cloud: Cloud, call: Call) -> Json:
    """Stop; stopping what is off is no error. One that is suspended can be resumed or deleted alone.

    "You can resume the VM or delete it": cloud.google.com/compute/docs/instances/instance-life-cycle, as the Zabbix template
    "GCP Compute Engine Instance by HTTP" quotes it. The text of the refusal is a guess.
    """
    instance = cloud.store.get(parent_of(call.path))
    if instance["status"] == "SUSPENDING":
        raise not_ready(unlink(instance["selfLink"]))
    if instance["status"] == "SUSPENDED":
        raise bad_usage("Instance is suspended and cannot be stopped")
    if instance["status"] == "TERMINATED":
        return cloud.begin(call, instance, Work(finish=lambda: None))
    return cloud.begin(call, instance, stopping(cloud, instance))


@serves("compute.instances.start")
def start(cloud: Cloud, call: Call) -> Json:
    """Start; starting what is on is no error.

    A guess: known of a sibling of the service,
    https://cloud.google.com/distributed-cloud/hosted/docs/latest/gdch/resources/gdcloud-reference/gdcloud-compute-instances-start.
    """
    instance = cloud.store.get(parent_of(call.path))
    if instance["status"] in ("RUNNING", "PROVISIONING", "STAGING"):
        return cloud.begin(call, instance, Work(finish=lambda: None))
    if instance["status"] != "TERMINATED":
        raise _wrong_state(instance, "start", "TERMINATED")

    def give_address() -> None:
        instance["status"] = "STAGING"
        for nic in instance["networkInterfaces"]:
            for config in nic.get("accessConfigs", []):
                if "natIP" not in config:
                    config["natIP"] = cloud.next_address()

    def undo() -> None:
        instance["status"] = "TERMINATED"
        forget_run(cloud, instance)
        addresses.release(cloud, instance, static=False)

    work = Work(begun=give_address, start=lambda: boot(cloud, instance), finish=lambda: mark_running(cloud, instance), undo=undo)
    return cloud.begin(call, instance, work)


def _wrong_state(instance: Json, verb: str, wanted: str) -> ApiError:
    path = unlink(instance["selfLink"])
    if instance["status"] in ("STOPPING", "SUSPENDING", "PROVISIONING", "STAGING"):
        return not_ready(path)
    return bad_usage(f"Cannot {verb} instance in state {instance['status']}, it must be in state {wanted}")


@serves("compute.instances.suspend")
def suspend(cloud: Cloud, call: Call) -> Json:
    begin = {"status": "SUSPENDING"}
    return _simple(cloud, call, "RUNNING", begin, "SUSPENDED", cloud.vms.suspend)


@serves("compute.instances.resume")
def resume(cloud: Cloud, call: Call) -> Json:
    return _simple(cloud, call, "SUSPENDED", {"status": "PROVISIONING"}, "RUNNING", cloud.vms.resume)


@serves("compute.instances.reset")
def reset(cloud: Cloud, call: Call) -> Json:
    return _simple(cloud, call, "RUNNING", {}, "RUNNING", cloud.vms.reset)


def _simple(cloud: Cloud, call: Call, needed: str, begin: Json, end: str, act: Callable[[str], Done]) -> Json:
    """Lead an instance from one state over another one to a third one."""
    path = parent_of(call.path)
    instance = cloud.store.get(path)
    if instance["status"] != needed:
        raise _wrong_state(instance, call.verb, needed)

    def finish() -> None:
        if path in cloud.store and instance["status"] == (begin.get("status") or end):
            instance["status"] = end
            if end == "SUSPENDED":
                instance["lastSuspendedTimestamp"] = cloud.now_text()
                _lift_limit(cloud, instance)
            elif needed == "SUSPENDED":
                _limit_run(cloud, instance)

    work = Work(
        begun=lambda: instance.update(begin), start=lambda: act(path), finish=finish, undo=lambda: instance.update(status=needed)
    )
    return cloud.begin(call, instance, work)
