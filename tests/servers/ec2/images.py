"""Images: their snapshots, names, states that take time; https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

from moto.ec2.models.amis import Ami
from moto.ec2.models.instances import StateReason
from moto.ec2.utils import random_ami_id

from tests.servers.ec2 import ids, life
from tests.servers.ec2.catalog import PUBLIC_IMAGES, PublicImage
from tests.servers.ec2.errors import ApiError, LateError, invalid_value

_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}")

Mapping = dict[str, Any]


class Image(Ami):
    """An AMI with the disks that it really has."""

    def __init__(self, backend: Any, ami_id: str, *, name: str, owner: str, mappings: list[Mapping], **more: Any) -> None:
        self.ec2_backend, self.id, self.name, self.owner_id = backend, ami_id, name, owner
        self.mappings = mappings
        self.image_location = f"{owner}/{name}"
        self.hypervisor, self.virtualization_type, self.root_device_type = "xen", "hvm", "ebs"
        self.image_type, self.sriov_net_support, self.ena_support = "machine", "simple", True
        self.platform: str | None = None
        self.platform_details, self.usage_operation = "Linux/UNIX", "RunInstances"
        self.kernel_id = None
        self.product_codes: set[str] = set()
        self.launch_permissions: list[dict[str, str]] = []
        self.state, self.owner_alias = "available", None
        self.state_reason: StateReason | None = None
        self.description: str | None = None
        self.instance_id: str | None = None
        self.deprecation_time: str | None = None
        self.imds_support: str | None = None
        self.__dict__.update(more)

    @property
    def public(self) -> bool:
        return self.is_public

    @property
    def block_device_mappings(self) -> list[Mapping]:
        return self.mappings

    @property
    def snapshot_ids(self) -> list[str]:
        return [mapping["Ebs"]["SnapshotId"] for mapping in self.mappings]

    def get_filter_value(self, filter_name: str, method_name: str | None = None) -> Any:
        more = {
            "creation-date": _stamp(self.creation_date),
            "root-device-type": self.root_device_type,
            "root-device-name": self.root_device_name,
            "description": self.description or "",
            "image-type": self.image_type,
            "hypervisor": self.hypervisor,
            "ena-support": str(self.ena_support).lower(),
            "platform-details": self.platform_details,
            "block-device-mapping.snapshot-id": self.snapshot_ids,
            "source-instance-id": self.instance_id or "",
            "owner-alias": self.owner_alias or "",
        }
        return more[filter_name] if filter_name in more else super().get_filter_value(filter_name, method_name)


def public_image(backend: Any, public: PublicImage) -> Image:
    """Return an image of the catalog; its snapshot belongs to the other owner, too."""
    snapshot_id = public.snapshot_id(backend.region_name)
    backend.public_snapshots[snapshot_id] = SimpleNamespace(
        id=snapshot_id, volume_size=public.size_gb, status="completed", encrypted=False, owner_id=public.owner
    )
    ebs = {"SnapshotId": snapshot_id, "VolumeSize": public.size_gb, "DeleteOnTermination": True, "VolumeType": "gp3"}
    return Image(
        backend,
        public.ami_id(backend.region_name),
        name=public.name,
        owner=public.owner,
        mappings=[{"DeviceName": public.root_device, "Ebs": {**ebs, "Encrypted": False}}],
        architecture=public.architecture,
        root_device_name=public.root_device,
        creation_date=datetime.fromisoformat(public.created.replace("Z", "+00:00")),
        boot_mode=public.boot_mode,
        owner_alias=public.alias or None,
        deprecation_time=public.deprecated_at or None,
        launch_permissions=[{"Group": "all"}],
    )


class Images:
    """The part of the backend that serves images."""

    cloud: Any
    amis: dict[str, Any]
    public_snapshots: dict[str, Any]
    account_id: str
    region_name: str

    def _load_amis(self) -> None:
        self.public_snapshots = {}
        for public in PUBLIC_IMAGES:
            image = public_image(self, public)
            self.amis[image.id] = image

    def check_name(self, name: str) -> None:
        """Raise ApiError when an image cannot be called so."""
        if not _NAME.fullmatch(name):
            allowed = "letters, numbers, '(', ')', '.', '-', '/' and '_'"
            message = f"AMI names must be between 3 and 128 characters long, and may contain {allowed}"
            raise ApiError("InvalidAMIName.Malformed", message)
        for image in self.own_images():
            if image.name == name:
                # https://github.com/hashicorp/terraform-aws-consul/pull/131
                raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")
        if len(self.own_images()) >= self.cloud.switches.images:
            # https://github.com/coreos/fedora-coreos-tracker/issues/1810 has the words for public images; these are a guess
            quota = self.cloud.switches.images
            message = f"You have reached your quota of {quota} for the number of images allowed in this Region."
            raise ApiError("ResourceLimitExceeded", message)

    def own_images(self) -> list[Any]:
        return [image for image in self.amis.values() if image.owner_id == self.account_id]

    def get_image(self, ami_id: str) -> Any:
        if ami_id not in self.amis:
            raise ids.absent(ami_id)
        return self.amis[ami_id]

    def describe_images(self, ami_ids: list[str] | None = None, *args: Any, **kwargs: Any) -> list[Any]:
        for ami_id in ami_ids or ():
            self.get_image(ami_id)
        return list(super().describe_images(ami_ids, *args, **kwargs))  # type: ignore[misc]

    def create_strict_image(self, instance: Any, tree: Mapping, tags: dict[str, dict[str, str]]) -> Image:
        """Snapshot the disks of an instance, and make an image that is available, or failed, later."""
        self.check_name(tree["Name"])
        if instance.state not in ("running", "stopping", "stopped"):
            # https://github.com/aws-samples/aws-systemsmanagerautomation-with-asglifecyclehooks/issues/2
            message = f"Invalid value '{instance.id}' for instanceId. Instance is not in state 'running' or 'stopping' or 'stopped'"
            raise invalid_value(message)
        late = self.cloud.take_late()
        image_id = random_ami_id()
        snapshots, mappings = self._snapshots_of(instance, image_id, tags.get("snapshot", {}))
        image = Image(
            self,
            image_id,
            name=tree["Name"],
            owner=self.account_id,
            mappings=mappings,
            description=tree.get("Description"),
            architecture=instance.architecture,
            root_device_name=instance.root_device_name,
            creation_date=self.cloud.now(),
            boot_mode=getattr(self.amis.get(instance.image_id), "boot_mode", None),
            instance_id=instance.id,
            state="pending",
        )
        self.amis[image_id] = image
        image.add_tags(tags.get("image", {}))
        self._copy_later(image, snapshots, late, instance if not tree.get("NoReboot") and instance.state == "running" else None)
        return image

    def _snapshots_of(self, instance: Any, image_id: str, tags: dict[str, str]) -> tuple[list[Any], list[Mapping]]:
        snapshots, mappings = [], []
        for device, block in instance.get_block_device_mapping:
            volume = self.get_volume(block.volume_id)  # type: ignore[attr-defined]
            text = f"Created by CreateImage({instance.id}) for {image_id}"
            snapshot = self.create_snapshot(volume.id, text, from_ami=image_id)  # type: ignore[attr-defined]
            snapshot.add_tags(tags)
            snapshots.append(snapshot)
            ebs = {"SnapshotId": snapshot.id, "VolumeSize": volume.size, "VolumeType": volume.volume_type}
            ebs |= {"DeleteOnTermination": block.delete_on_termination, "Encrypted": volume.encrypted}
            mappings.append({"DeviceName": device, "Ebs": ebs})
        return snapshots, mappings

    def _copy_later(self, image: Image, snapshots: list[Any], late: LateError | None, rebooted: Any) -> None:
        """Copy the disks now; the image is there after `image_s`. A running instance goes off for it unless NoReboot is set."""

        def copied(error: Exception | None) -> None:
            if rebooted is not None:
                life.power_on_again(self, rebooted)
            self._finish(image, error)

        def copy() -> None:
            self.copy_now(snapshots, late, copied)  # type: ignore[attr-defined]

        def off() -> None:
            self.cloud.after(self.cloud.image_s, copy)

        if rebooted is None:
            off()
        else:
            self.cloud.when_all([self.cloud.vms.stop(rebooted.id)], off, lambda error: copied(error))

    def _finish(self, image: Image, error: Exception | None) -> None:
        image.state = "failed" if error else "available"
        if error:
            code = error.code if isinstance(error, LateError) else "Client.InternalError"
            message = error.message if isinstance(error, LateError) else str(error)
            image.state_reason = StateReason(message, code)

    def copy_strict_image(self, source: Any, tree: Mapping, tags: dict[str, dict[str, str]]) -> Image:
        """Copy an image, which may be that of another region: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html."""
        self.check_name(tree["Name"])
        if source.state != "available":
            raise unavailable_image(source)
        late = self.cloud.take_late()
        image_id, vms = random_ami_id(), self.cloud.vms
        snapshots, mappings = [], []
        for mapping in source.mappings:
            text = f"Copied for DestinationAmi {image_id} from SourceAmi {source.id}"
            volume = self.create_volume(None, f"{self.region_name}a", _local(self, source, mapping))  # type: ignore[attr-defined]
            snapshot = self.create_snapshot(volume.id, text, from_ami=image_id)  # type: ignore[attr-defined]
            snapshot.add_tags(tags.get("snapshot", {}))
            snapshots.append(snapshot)
            del self.volumes[volume.id]  # type: ignore[attr-defined]
            encrypted = tree.get("Encrypted", mapping["Ebs"]["Encrypted"])
            mappings.append({**mapping, "Ebs": {**mapping["Ebs"], "SnapshotId": snapshot.id, "Encrypted": encrypted}})
        more = {name: getattr(source, name) for name in ("architecture", "root_device_name", "boot_mode")}
        more |= {"description": tree.get("Description") or source.description, "creation_date": self.cloud.now()}
        image = Image(self, image_id, name=tree["Name"], owner=self.account_id, mappings=mappings, state="pending", **more)
        image.source_image_id = source.id  # type: ignore[attr-defined]
        self.amis[image_id] = image
        image.add_tags({**(_own_tags(source) if tree.get("CopyImageTags") else {}), **tags.get("image", {})})

        def copied(error: Exception | None) -> None:
            for snapshot in snapshots:
                vms.delete_disk(snapshot.volume_id)
            self._finish(image, error)

        self.cloud.after(self.cloud.image_s, lambda: self.copy_now(snapshots, late, copied))  # type: ignore[attr-defined]
        return image

    def deregister_image(self, ami_id: str) -> None:
        image = self.get_image(ami_id)
        if image.owner_id != self.account_id:
            raise not_owner(ami_id)
        del self.amis[ami_id]

    def deprecate(self, ami_id: str, when: str | None) -> None:
        """Set or clear the time from which an image is deprecated; raises ApiError."""
        image = self.get_image(ami_id)
        if image.owner_id != self.account_id:
            raise not_owner(ami_id)
        if when is None:
            image.deprecation_time = None
            return
        moment = datetime.fromisoformat(when.replace("Z", "+00:00"))
        if not self.cloud.now() < moment < self.cloud.now() + timedelta(days=3653):
            raise invalid_value("The deprecation date must be in the future and no more than 10 years from now.")
        image.deprecation_time = _stamp(moment.replace(second=0, microsecond=0))


def unavailable_image(image: Any) -> ApiError:
    """Return the error of https://github.com/hashicorp/packer/issues/12162."""
    return ApiError("InvalidAMIID.Unavailable", f"AMI '{image.id}' is {image.state}, and cannot be run")


def not_owner(ami_id: str) -> ApiError:
    """Return what the image of another owner answers to a change: the code is that of the list of codes, the text a guess."""
    return ApiError("AuthFailure", f"Not authorized for images: [{ami_id}]", status=403)


def _local(backend: Any, source: Any, mapping: Mapping) -> str:
    """Return the snapshot to copy, making that of another region known here."""
    snapshot_id = str(mapping["Ebs"]["SnapshotId"])
    if snapshot_id not in backend.snapshots:
        backend.public_snapshots.setdefault(snapshot_id, source.ec2_backend.get_snapshot(snapshot_id))
    return snapshot_id


def _own_tags(image: Any) -> dict[str, str]:
    return dict(image.ec2_backend.tags.get(image.id, {}))


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.000Z"
