"""The life of an instance: power on and off, reboot, termination, and how it ends without a request.

https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from tests.servers.ec2 import consoles, metadata, states
from tests.servers.ec2.cloud import Cloud
from tests.servers.ec2.errors import LateError
from tests.servers.ec2.states import GONE, set_state
from tests.servers.vm import Done, Drive, Vm, VmError

SHOWN_AFTER_END_S = 3600.0
"""A terminated instance is visible for about an hour: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html."""


def vm_of(backend: Any, instance: Any) -> Vm:
    """Return an instance as the machine behind it sees it; its metadata change while it runs."""
    kind = INSTANCE_TYPES[instance.instance_type]
    tags = dict(backend.tags.get(instance.id, {}))
    return Vm(
        id=instance.id,
        name=tags.get("Name", instance.id),
        zone=instance.availability_zone,
        cpus=kind["VCpuInfo"]["DefaultVCpus"],
        memory_mb=kind["MemoryInfo"]["SizeInMiB"],
        metadata=metadata.refresh(backend, instance),
        labels=tags,
        tags=tuple(group.id for group in instance.security_groups),
        drives=drives_of(backend, instance),
        address=instance.public_ip or "",
        spot=instance.lifecycle == "spot",
    )


def drives_of(backend: Any, instance: Any) -> tuple[Drive, ...]:
    """Return the disks of an instance, the root disk first."""
    found = []
    for device, block in instance.get_block_device_mapping:
        volume = backend.volumes[block.volume_id]
        is_root = device == instance.root_device_name
        found.append(Drive(id=volume.id, size_gb=volume.size, boot=is_root, image=volume.snapshot_id or ""))
    return tuple(sorted(found, key=lambda drive: not drive.boot))


def power_on(backend: Any, instance: Any, late: LateError | None = None) -> None:
    """Boot a pending instance after `state_s`; one that cannot start is terminated."""
    cloud: Cloud = backend.cloud
    run = cloud.start_run(instance.id)
    instance.launch_time = cloud.now()  # "updated for instances that are stopped and started": API_Instance
    set_state(instance, "pending")
    instance.was_stopped = False
    cloud.count_room(instance, -1)

    def fail(error: Exception) -> None:
        if cloud.runs.get(instance.id) == run:
            code = error.code if isinstance(error, LateError) else "Server.InternalError"
            states.set_reason(instance, code, error.message if isinstance(error, LateError) else "Internal error on launch")
            _end(backend, instance)

    def boot() -> None:
        if cloud.runs.get(instance.id) != run:
            return
        if late:
            fail(late)
            return
        give_address(backend, instance)
        dones = [backend.disks[drive.id] for drive in drives_of(backend, instance)]
        cloud.when_all(dones, start, fail)

    def start() -> None:
        try:
            done = cloud.vms.start(vm_of(backend, instance))
        except VmError as error:
            fail(error)
            return
        consoles.begin(cloud, instance.id)
        cloud.when_all([done], running, fail)

    def running() -> None:
        if cloud.runs.get(instance.id) == run and instance.state == "pending":
            set_state(instance, "running")
            consoles.post_later(cloud, instance.id)

    cloud.after(cloud.state_s, boot)


def power_on_again(backend: Any, instance: Any) -> None:
    """Boot a running instance whose machine was off for an image; the API shows it as running all the time."""
    if instance.state == "running":
        backend.cloud.vms.start(vm_of(backend, instance))


def give_address(backend: Any, instance: Any) -> None:
    """Give a public address to an instance that is to have one; stopped instances lose it."""
    nic = instance.nics[0]
    if nic.public_ip_auto_assign and not nic.public_ip:
        nic.public_ip = backend.cloud.next_address()


def take_address(backend: Any, instance: Any) -> None:
    nic = instance.nics[0]
    if nic.public_ip and not any(address.public_ip == nic.public_ip for address in backend.addresses):
        backend.cloud.returned_addresses.append(nic.public_ip)
        nic.public_ip = None


def stop(backend: Any, instance: Any) -> None:
    """Shut a guest down, and mark the instance as stopped when it is off."""
    cloud: Cloud = backend.cloud
    cloud.start_run(instance.id)
    set_state(instance, "stopping")

    def off() -> None:
        if instance.state == "stopping":
            set_state(instance, "stopped")
            take_address(backend, instance)
            cloud.count_room(instance, 1)
            backend.spot_instance_stopped(instance)

    _after_shutdown(cloud, instance, cloud.vms.stop, off)


def terminate(backend: Any, instance: Any) -> None:
    """Shut a guest down, and delete the instance when it is off."""
    cloud: Cloud = backend.cloud
    cloud.start_run(instance.id)
    instance.was_stopped = instance.state == "stopped"
    set_state(instance, "shutting-down")
    _after_shutdown(cloud, instance, cloud.vms.stop, lambda: _end(backend, instance))


def _after_shutdown(cloud: Cloud, instance: Any, act: Callable[[str], Done], then: Callable[[], None]) -> None:
    consoles.keep(cloud, instance.id)
    done = act(instance.id)
    failed = cloud.after
    cloud.after(cloud.state_s, lambda: cloud.when_all([done], then, lambda error: failed(0, then)))


def _end(backend: Any, instance: Any) -> None:
    """Delete an instance: its machine, its network interfaces, and the disks that go with it."""
    cloud: Cloud = backend.cloud
    if instance.state == "terminated":
        return
    if not instance.was_stopped:
        cloud.count_room(instance, 1)
    reason, text = instance.state_reason, instance._reason
    take_address(backend, instance)
    for address in [address for address in backend.addresses if address.instance is instance]:
        backend.disassociate_address(address=address.public_ip)
    cloud.vms.delete(instance.id)
    set_state(instance, "shutting-down")
    instance.terminate()
    set_state(instance, "terminated")
    instance.state_reason, instance._reason = reason, text
    cloud.runs.pop(instance.id, None)
    backend.spot_instance_ended(instance)
    cloud.after(SHOWN_AFTER_END_S, lambda: _forget(backend, instance))


def _forget(backend: Any, instance: Any) -> None:
    for reservation in list(backend.reservations.values()):
        reservation.instances = [one for one in reservation.instances if one is not instance]
        if not reservation.instances:
            del backend.reservations[reservation.id]
    backend.tags.pop(instance.id, None)


def reboot(backend: Any, instance: Any) -> None:
    consoles.keep(backend.cloud, instance.id)
    backend.cloud.vms.reset(instance.id)
    consoles.begin(backend.cloud, instance.id)
    consoles.post_later(backend.cloud, instance.id)


def ended(backend: Any, instance: Any) -> None:
    """Note that a guest has powered itself off: InstanceInitiatedShutdownBehavior says what follows.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_ChangingInstanceInitiatedShutdownBehavior.html. That a one-time Spot
    instance is terminated whatever the setting is a guess: it cannot be stopped.
    """
    if instance.state in ("stopping", "stopped", *GONE):
        return
    states.by_guest(instance)
    if instance.instance_initiated_shutdown_behavior == "terminate" or backend.is_one_time(instance):
        terminate(backend, instance)
    else:
        stop(backend, instance)
