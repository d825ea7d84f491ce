"""moto's responses for images, volumes and snapshots, made strict."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response

from tests.servers.ec2 import ids, images, tag_rules
from tests.servers.ec2.cloud import CLOUDS, Cloud
from tests.servers.ec2.errors import ApiError, NotServed, invalid_value

Tree = dict[str, Any]


class ImageResponse(EC2Response):
    """The actions on images, volumes and snapshots."""

    tree: Tree
    action: str

    @property
    def cloud(self) -> Cloud:
        return CLOUDS[self.current_account]

    def create_image(self) -> ActionResult:
        tag_rules.check(self.tree, "image", "snapshot")
        if self.tree.get("BlockDeviceMappings"):
            raise NotServed("CreateImage with other disks than those of the instance")
        instance = self.ec2_backend.get_instance(self.tree["InstanceId"])
        self.ec2_backend.check_name(self.tree["Name"])
        self.error_on_dryrun()
        return ActionResult({"ImageId": self.ec2_backend.create_strict_image(instance, self.tree, _tags(self.tree)).id})

    def copy_image(self) -> ActionResult:
        tag_rules.check(self.tree, "image", "snapshot")
        source = self._in_region(self.tree["SourceRegion"]).get_image(self.tree["SourceImageId"])
        self.error_on_dryrun()
        return ActionResult({"ImageId": self.ec2_backend.copy_strict_image(source, self.tree, _tags(self.tree)).id})

    def _in_region(self, region: str) -> Any:
        if region not in ec2_backends[self.current_account]:
            raise invalid_value(f"Invalid value '{region}' for SourceRegion.")
        return ec2_backends[self.current_account][region]

    def describe_images(self) -> ActionResult:
        found = super().describe_images().result["Images"]  # type: ignore[index]
        shown = visible(found, self.tree, self.current_account, f"{self.cloud.now():%Y-%m-%dT%H:%M:%S}.000Z")
        return ActionResult({"Images": shown})

    def deregister_image(self) -> ActionResult:
        self.error_on_dryrun()
        image = self.ec2_backend.get_image(self.tree["ImageId"])
        self.ec2_backend.deregister_image(image.id)
        results = []
        if self.tree.get("DeleteAssociatedSnapshots"):
            for snapshot_id in image.snapshot_ids:
                self.ec2_backend.delete_snapshot(snapshot_id)
                results.append({"SnapshotId": snapshot_id, "ReturnCode": "success"})
        return ActionResult({"Return": True, "DeleteSnapshotResults": results})

    def disable_image(self) -> ActionResult:
        return self._set_disabled("disabled")

    def enable_image(self) -> ActionResult:
        return self._set_disabled("available")

    def _set_disabled(self, state: str) -> ActionResult:
        image = self.ec2_backend.get_image(self.tree["ImageId"])
        if image.owner_id != self.current_account:
            raise images.not_owner(image.id)
        self.error_on_dryrun()
        image.state = state
        return ActionResult({"Return": True})

    def enable_image_deprecation(self) -> ActionResult:
        self.error_on_dryrun()
        self.ec2_backend.deprecate(self.tree["ImageId"], self.tree["DeprecateAt"])
        return ActionResult({"Return": True})

    def disable_image_deprecation(self) -> ActionResult:
        self.error_on_dryrun()
        self.ec2_backend.deprecate(self.tree["ImageId"], None)
        return ActionResult({"Return": True})

    def modify_image_attribute(self) -> ActionResult:
        """Change the description or the launch permissions, one of them at a time.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyImageAttribute.html; moto ignores the description.
        """
        image = self.ec2_backend.get_image(self.tree["ImageId"])
        if image.owner_id != self.current_account:
            raise images.not_owner(image.id)
        if set(self.tree) - {"ImageId", "DryRun"} == {"Description"}:
            self.error_on_dryrun()
            image.description = self.tree["Description"].get("Value", "")
            return EmptyResult()
        if not set(self.tree) <= {"ImageId", "DryRun", *_PERMISSIONS}:
            raise NotServed(f"ModifyImageAttribute with {sorted(self.tree)}")
        if any(mapping["Ebs"]["Encrypted"] for mapping in image.mappings):
            # https://github.com/hashicorp/packer/issues/7410; all encrypted disks of this server have the default key
            message = "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot."
            raise ApiError("InvalidParameter", message)
        return super().modify_image_attribute()

    def modify_snapshot_attribute(self) -> ActionResult:
        """Change who may use a snapshot, by `OperationType` or by `CreateVolumePermission`, which moto ignores.

        https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html
        """
        tree = self.tree
        if tree["SnapshotId"] not in self.ec2_backend.snapshots:
            raise ids.absent(tree["SnapshotId"])
        if self.ec2_backend.snapshots[tree["SnapshotId"]].encrypted:
            # https://github.com/hashicorp/packer/issues/7499
            raise ApiError("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
        self.error_on_dryrun()
        changes = tree.get("CreateVolumePermission", {})
        for change, act in (("Add", "add_create_volume_permission"), ("Remove", "remove_create_volume_permission")):
            whom = changes.get(change, [])
            getattr(self.ec2_backend, act)(
                tree["SnapshotId"],
                user_ids=[one["UserId"] for one in whom if "UserId" in one],
                groups=[one["Group"] for one in whom if "Group" in one],
            )
        return super().modify_snapshot_attribute()

    def create_volume(self) -> ActionResult:
        tag_rules.check(self.tree, "volume")
        return super().create_volume()

    def attach_volume(self) -> ActionResult:
        self.ec2_backend.check_attachable(self.tree["VolumeId"], self.tree["InstanceId"])
        return super().attach_volume()

    def describe_snapshots(self) -> ActionResult:
        """Return the snapshots that `OwnerIds` asks for: `self` are those of this account."""
        found = super().describe_snapshots().result["Snapshots"]  # type: ignore[index]
        owners = {self.current_account if owner == "self" else owner for owner in self.tree.get("OwnerIds", [])}
        return ActionResult({"Snapshots": [one for one in found if not owners or one.owner_id in owners]})


_PERMISSIONS = ("Attribute", "OperationType", "UserIds", "UserGroups", "LaunchPermission")
"""The parameters of ModifyImageAttribute that say whom an image is shared with."""


def _tags(tree: Tree) -> dict[str, dict[str, str]]:
    """Return the tags of a request by type of resource."""
    found: dict[str, dict[str, str]] = {}
    for one in tree.get("TagSpecifications", []):
        tags = {tag["Key"]: tag.get("Value", "") for tag in one.get("Tags", [])}
        found.setdefault(one.get("ResourceType", ""), {}).update(tags)
    return found


def visible(images: list[Any], tree: Tree, account: str, now: str) -> list[Any]:
    """Leave out deprecated images of others and disabled ones, unless the request asks for them.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ami-deprecate.html, .../disable-an-ami.html
    """
    if tree.get("ImageIds"):
        return images
    shown = [image for image in images if image.owner_id == account or image.is_public]
    if not tree.get("IncludeDeprecated"):
        shown = [
            image for image in shown if image.owner_id == account or not image.deprecation_time or image.deprecation_time > now
        ]
    if not tree.get("IncludeDisabled"):
        shown = [image for image in shown if image.state != "disabled"]
    return shown
