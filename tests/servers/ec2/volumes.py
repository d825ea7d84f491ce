"""Volumes and snapshots: states that take time, the disks behind them, and what they refuse."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.elastic_block_store import Snapshot, Volume

from tests.servers.ec2 import ids
from tests.servers.ec2.errors import ApiError, LateError, invalid_value, missing
from tests.servers.vm import Done, VmError

SIZES_GB = {"gp2": (1, 16384), "gp3": (1, 65536), "io1": (4, 16384), "io2": (4, 65536), "st1": (125, 16384), "sc1": (125, 16384)}
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html, Size; standard: 1 to 1,024."""


class StrictVolume(Volume):
    """A volume that takes time to be made."""

    phase = "creating"

    @property
    def status(self) -> str:
        if self.attachment:
            return "in-use"
        return self.phase


class StrictSnapshot(Snapshot):
    """A snapshot that takes time, and keeps the size that its volume had."""

    state_message = ""
    size_gb = 0

    @property
    def progress(self) -> str:
        return "100%" if self.status == "completed" else "0%"

    @property
    def volume_size(self) -> int:
        return self.size_gb

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        if filter_name == "progress":
            return self.progress
        if filter_name == "owner-alias":
            return ""
        return super().get_filter_value(filter_name, method_name)


class Volumes:
    """The part of the backend that serves volumes and snapshots."""

    cloud: Any
    volumes: dict[str, Any]
    snapshots: dict[str, Any]
    public_snapshots: dict[str, Any]
    disks: dict[str, Done]
    amis: dict[str, Any]

    def create_volume(self, size: int | None, zone_name: str, snapshot_id: str | None = None, **more: Any) -> StrictVolume:
        """Make a volume and its disk; raises ApiError."""
        zone = self.get_zone_by_name(zone_name)  # type: ignore[attr-defined]
        if zone is None:
            raise ApiError("InvalidZone.NotFound", f"The zone '{zone_name}' does not exist.")
        snapshot = self.get_snapshot(snapshot_id) if snapshot_id else None
        size = _size(size, snapshot, more.get("volume_type") or "gp2")
        template = super().create_volume(size, zone_name, **more)  # type: ignore[misc]
        volume = StrictVolume(self, template.id, size, zone, snapshot_id)  # type: ignore[abstract]
        volume.__dict__.update({**template.__dict__, "snapshot_id": snapshot_id})
        self.volumes[volume.id] = volume
        self.disks[volume.id] = self.cloud.vms.create_disk(volume.id, size, snapshot_id or "")
        self.cloud.after(self.cloud.state_s, lambda: self._volume_made(volume))
        return volume

    def _volume_made(self, volume: StrictVolume) -> None:
        def done() -> None:
            volume.phase = "available"

        def failed(error: Exception) -> None:
            volume.phase = "error"

        self.cloud.when_all([self.disks[volume.id]], done, failed)

    def delete_volume(self, volume_id: str) -> Any:
        volume = self.volumes.get(volume_id)
        if volume and volume.attachment:
            message = f"Volume {volume_id} is currently attached to {volume.attachment.instance.id}"
            raise ApiError("VolumeInUse", message)
        if volume is None:
            raise ids.absent(volume_id)
        self.cloud.vms.delete_disk(volume_id)
        self.disks.pop(volume_id, None)
        return self.volumes.pop(volume_id)

    def attach_volume(self, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False) -> Any:
        """Attach; https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html."""
        volume = self.get_volume(volume_id)  # type: ignore[attr-defined]
        instance = self.get_instance(instance_id)  # type: ignore[attr-defined]
        if volume.attachment:
            raise ApiError("VolumeInUse", f"{volume_id} is already attached to an instance")
        if device_path in instance.block_device_mapping:
            # https://github.com/nanovms/ops/pull/1189
            raise invalid_value(f"Invalid value '{device_path}' for unixDevice. Attachment point {device_path} is already in use")
        if volume.availability_zone != instance.availability_zone:
            message = f"The volume '{volume_id}' is not in the same availability zone as instance '{instance_id}'"
            raise ApiError("InvalidVolume.ZoneMismatch", message)
        return super().attach_volume(volume_id, instance_id, device_path, delete_on_termination)  # type: ignore[misc]

    def check_attachable(self, volume_id: str, instance_id: str) -> None:
        """Refuse an AttachVolume that comes too early or too late."""
        volume = self.get_volume(volume_id)  # type: ignore[attr-defined]
        instance = self.get_instance(instance_id)  # type: ignore[attr-defined]
        if not volume.attachment and volume.phase != "available":
            # https://github.com/andsens/build-debian-cloud/pull/85
            raise ApiError("IncorrectState", f"{volume_id} is not 'available'.")
        if instance.state not in ("running", "stopped"):
            # https://github.com/ansible-collections/amazon.aws/pull/497
            raise ApiError("IncorrectState", f"Instance '{instance_id}' is not 'running'.")

    def detach_volume(self, volume_id: str, instance_id: str | None, device_path: str | None) -> Any:
        volume = self.get_volume(volume_id)  # type: ignore[attr-defined]
        if not volume.attachment:
            # https://github.com/hashicorp/terraform/pull/9023
            raise ApiError("IncorrectState", f"Volume '{volume_id}' is in the 'available' state.")
        instance = volume.attachment.instance
        if instance_id not in (None, instance.id):
            message = f"The volume {volume_id} is not attached to instance {instance_id}"
            raise ApiError("InvalidAttachment.NotFound", message)
        device = volume.attachment.device
        if device == instance.root_device_name and instance.state in ("pending", "running"):
            message = f"Unable to detach root volume '{volume_id}' from instance '{instance.id}'"
            raise ApiError("OperationNotPermitted", message)
        return super().detach_volume(volume_id, instance.id, device_path or device)  # type: ignore[misc]

    def get_snapshot(self, snapshot_id: str) -> Any:
        found = self.snapshots.get(snapshot_id) or self.public_snapshots.get(snapshot_id)
        if found is None:
            raise ids.absent(snapshot_id)
        return found

    def create_snapshot(
        self, volume_id: str, description: str, owner_id: str | None = None, from_ami: str | None = None
    ) -> StrictSnapshot:
        """Make a snapshot of a volume; it is complete later, or failed."""
        template = super().create_snapshot(volume_id, description, owner_id, from_ami)  # type: ignore[misc]
        snapshot = StrictSnapshot(self, template.id, template.volume, description)
        snapshot.__dict__.update({**template.__dict__, "status": "pending", "size_gb": template.volume.size})
        self.snapshots[snapshot.id] = snapshot
        if not from_ami:
            late = self.cloud.take_late()
            self.cloud.after(self.cloud.image_s, lambda: self.copy_now([snapshot], late, lambda error: None))
        return snapshot

    def copy_now(self, snapshots: list[StrictSnapshot], late: LateError | None, then: Any) -> None:
        """Copy the disks behind some snapshots, and call `then` with None or the error once that is over."""

        def finish(error: Exception | None) -> None:
            for snapshot in snapshots:
                snapshot.status = "error" if error else "completed"
                snapshot.state_message = str(error) if error else ""
            then(error)

        try:
            if late:
                raise late
            dones = [self.cloud.vms.copy_disk(snapshot.volume_id, snapshot.id) for snapshot in snapshots]
        except (VmError, LateError) as error:
            finish(error)
        else:
            self.cloud.when_all(dones, lambda: finish(None), finish)

    def delete_snapshot(self, snapshot_id: str) -> Any:
        if snapshot_id not in self.snapshots:
            raise ids.absent(snapshot_id)
        for image in self.amis.values():
            if snapshot_id in image.snapshot_ids:
                message = f"The snapshot {snapshot_id} is currently in use by {image.id}"
                raise ApiError("InvalidSnapshot.InUse", message)
        self.cloud.vms.delete_image(snapshot_id)
        return self.snapshots.pop(snapshot_id)


def _size(size: int | None, snapshot: Any, kind: str) -> int:
    """Return the size of a new volume in GiB; raises ApiError."""
    if snapshot and snapshot.status != "completed":
        raise ApiError("IncorrectState", f"Snapshot {snapshot.id} is not in the 'completed' state")
    if size is None:
        if snapshot is None:
            raise missing("size/snapshot")
        size = snapshot.volume_size
    least, most = SIZES_GB.get(kind, (1, 1024))
    if size < least:
        raise invalid_value(f"Volume of {size}GiB is too small for volume type {kind}; minimum is {least}GiB.")
    if size > most:
        raise invalid_value(f"Volume of {size}GiB is too large for volume type {kind}; maximum is {most}GiB.")
    if snapshot and size < snapshot.volume_size:
        # https://github.com/aws/karpenter-provider-aws/issues/3302 has the words that RunInstances uses
        message = f"The size of a volume ({size}GiB) must be at least that of snapshot '{snapshot.id}' ({snapshot.volume_size}GiB)."
        raise invalid_value(message)
    return size
