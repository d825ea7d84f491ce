"""The EC2 server: images and their snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import LateError
from tests.servers.ec2_asking import DEBIAN, IMAGE_S, STATE_S, base, boot, client, image, refusal, refused, state
from tests.servers.vm import ScriptedVms

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def _image(api: Any, image_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.describe_images(ImageIds=[image_id])["Images"][0]
    return found


def test_an_image_is_pending_until_its_disks_are_copied(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    mine = api.create_image(InstanceId=one, Name="mine", NoReboot=True)["ImageId"]
    assert (_image(api, mine)["State"], vms.images) == ("pending", {})
    ec2.advance(IMAGE_S)
    found = _image(api, mine)
    assert (found["State"], found["Name"], found["OwnerId"]) == ("available", "mine", ec2.account)
    assert list(vms.images) == [found["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]]


def test_tags_go_to_the_image_and_to_its_snapshots(ec2: Ec2, api: Any) -> None:
    tags = [{"ResourceType": kind, "Tags": [{"Key": "bake", "Value": kind}]} for kind in ("image", "snapshot")]
    image(ec2, api, boot(ec2, api), TagSpecifications=tags)
    assert api.describe_images(Owners=["self"])["Images"][0]["Tags"] == [{"Key": "bake", "Value": "image"}]
    snapshot = api.describe_snapshots(OwnerIds=["self"])["Snapshots"][0]
    assert (snapshot["Tags"], snapshot["State"]) == ([{"Key": "bake", "Value": "snapshot"}], "completed")


def test_an_image_has_all_disks_of_its_instance(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 12, "VolumeType": "gp3"}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3, "DeleteOnTermination": False}},
    ]
    mine = image(ec2, api, boot(ec2, api, BlockDeviceMappings=disks))
    found = {disk["DeviceName"]: disk["Ebs"]["VolumeSize"] for disk in _image(api, mine)["BlockDeviceMappings"]}
    assert found == {"/dev/xvda": 12, "/dev/sdf": 3}
    assert len(vms.images) == 2


def test_a_name_is_used_once(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    mine = image(ec2, api, one)
    code, message, status = refusal(api.create_image, InstanceId=one, Name="mine")
    assert (code, status, message) == ("InvalidAMIName.Duplicate", 400, f"AMI name mine is already in use by AMI {mine}")
    api.deregister_image(ImageId=mine)
    image(ec2, api, one)


def test_an_image_that_is_made_reboots_its_instance_unless_told_not_to(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    image(ec2, api, one, "first", NoReboot=True)
    assert len(vms.boots) == 1
    image(ec2, api, one, "second")
    assert (len(vms.boots), state(api, one)) == (2, "running")


def test_an_image_may_fail_late(ec2: Ec2, api: Any) -> None:
    ec2.fault("CreateImage", error=LateError("Client.SnapshotError", "The snapshot failed"))
    mine = api.create_image(InstanceId=boot(ec2, api), Name="mine")["ImageId"]
    ec2.advance(IMAGE_S)
    found = _image(api, mine)
    assert (found["State"], found["StateReason"]["Code"]) == ("failed", "Client.SnapshotError")
    assert api.describe_snapshots(OwnerIds=["self"])["Snapshots"][0]["State"] == "error"


def test_an_image_may_finish_long_after_the_caller_has_given_up(ec2: Ec2, api: Any) -> None:
    ec2.cloud.image_s = 3 * 3600
    mine = api.create_image(InstanceId=boot(ec2, api), Name="mine")["ImageId"]
    ec2.advance(3 * 3600 - 1)
    assert _image(api, mine)["State"] == "pending"
    ec2.advance(1)
    assert _image(api, mine)["State"] == "available"


def test_a_pending_image_cannot_be_started(ec2: Ec2, api: Any) -> None:
    mine = api.create_image(InstanceId=boot(ec2, api), Name="mine")["ImageId"]
    wanted = {"ImageId": mine, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    code, message, _ = refusal(api.run_instances, **wanted)
    assert (code, message) == ("InvalidAMIID.Unavailable", f"AMI '{mine}' is pending, and cannot be run")


def test_an_image_needs_an_instance_that_has_run(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    code, message, _ = refusal(api.create_image, InstanceId=one, Name="mine")
    assert (code, message.split(". ")[0]) == ("InvalidParameterValue", f"Invalid value '{one}' for instanceId")
    assert "is not in state 'running'" in message


def test_a_snapshot_stays_while_an_image_uses_it(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    mine = image(ec2, api, boot(ec2, api))
    snapshot = _image(api, mine)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    assert refused(api.delete_snapshot, SnapshotId=snapshot) == "InvalidSnapshot.InUse"
    api.deregister_image(ImageId=mine)
    api.delete_snapshot(SnapshotId=snapshot)
    assert (refused(api.delete_snapshot, SnapshotId=snapshot), vms.images) == ("InvalidSnapshot.NotFound", {})


def test_a_deregistration_may_take_the_snapshots_along(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api))
    answer = api.deregister_image(ImageId=mine, DeleteAssociatedSnapshots=True)
    assert [result["ReturnCode"] for result in answer["DeleteSnapshotResults"]] == ["success"]
    assert [line for line in ec2.inventory() if line.startswith(("images", "snapshots"))] == []


def test_a_deregistered_image_is_not_found(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api))
    api.deregister_image(ImageId=mine)
    assert refused(api.describe_images, ImageIds=[mine]) == "InvalidAMIID.NotFound"
    assert refused(api.deregister_image, ImageId=mine) == "InvalidAMIID.NotFound"


def test_deprecated_images_of_others_are_left_out(ec2: Ec2, api: Any) -> None:
    wanted = {"Owners": [DEBIAN], "Filters": [{"Name": "name", "Values": ["debian-13-amd64-2024*"]}]}
    assert api.describe_images(**wanted)["Images"] == []
    assert api.describe_images(**wanted, IncludeDeprecated=True)["Images"][0]["DeprecationTime"] == "2026-02-01T00:00:00.000Z"


def test_own_images_may_be_deprecated(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api))
    api.enable_image_deprecation(ImageId=mine, DeprecateAt="2027-01-01T00:00:30Z")
    assert _image(api, mine)["DeprecationTime"] == "2027-01-01T00:00:00.000Z"
    ec2.advance(365 * 86400)
    assert len(api.describe_images(Owners=["self"])["Images"]) == 1
    api.disable_image_deprecation(ImageId=mine)
    assert "DeprecationTime" not in _image(api, mine)


def test_an_image_may_be_disabled(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api))
    api.disable_image(ImageId=mine)
    assert api.describe_images(Owners=["self"])["Images"] == []
    assert api.describe_images(Owners=["self"], IncludeDisabled=True)["Images"][0]["State"] == "disabled"
    wanted = {"ImageId": mine, "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    assert refused(api.run_instances, **wanted) == "InvalidAMIID.Unavailable"


def test_a_copy_in_another_region_takes_its_time_and_its_tags(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    mine = image(ec2, api, boot(ec2, api), TagSpecifications=[{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}])
    other = client(ec2, region="eu-west-1")
    copy = other.copy_image(SourceImageId=mine, SourceRegion="us-east-1", Name="copy", CopyImageTags=True)["ImageId"]
    assert _image(other, copy)["State"] == "pending"
    ec2.advance(IMAGE_S)
    assert (_image(other, copy)["State"], _image(other, copy)["Tags"]) == ("available", [{"Key": "a", "Value": "b"}])
    assert refused(api.describe_images, ImageIds=[copy]) == "InvalidAMIID.NotFound"
    assert len(vms.images) == 2


def test_images_of_others_are_not_ours_to_delete(ec2: Ec2, api: Any) -> None:
    assert refused(api.deregister_image, ImageId=base(api)) == "AuthFailure"


def test_filters_of_images(ec2: Ec2, api: Any) -> None:
    def names(**filters: str) -> list[str]:
        wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        return [found["Name"] for found in api.describe_images(Filters=wanted)["Images"]]

    assert names(creation_date="2026-08-03*", owner_id=DEBIAN) == ["debian-13-amd64-20260803-1890"]
    assert names(root_device_type="ebs", architecture="arm64", owner_id=DEBIAN) == [
        "debian-12-arm64-20260914-1890",
        "debian-13-arm64-20261019-1890",
    ]
    assert names(root_device_type="instance-store") == []


def test_images_have_a_quota(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    ec2.switches.images = 1
    image(ec2, api, one, "first", NoReboot=True)
    assert refused(api.create_image, InstanceId=one, Name="second") == "ResourceLimitExceeded"


def test_a_description_may_be_changed(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api), Description="before")
    api.modify_image_attribute(ImageId=mine, Description={"Value": "after"})
    assert _image(api, mine)["Description"] == "after"
    assert refused(api.modify_image_attribute, ImageId=base(api), Description={"Value": "mine"}) == "AuthFailure"


@pytest.mark.parametrize("operation", ["add", ""], ids=["by operation", "by change"])
def test_an_image_and_its_snapshot_may_be_shared(ec2: Ec2, api: Any, operation: str) -> None:
    mine, friend = image(ec2, api, boot(ec2, api)), "444455556666"
    snapshot = _snapshot(api, mine)
    if operation:
        api.modify_image_attribute(ImageId=mine, Attribute="launchPermission", OperationType="add", UserIds=[friend])
        api.modify_snapshot_attribute(SnapshotId=snapshot, OperationType="add", UserIds=[friend])
    else:
        api.modify_image_attribute(ImageId=mine, LaunchPermission={"Add": [{"UserId": friend}]})
        api.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Add": [{"UserId": friend}]})
    assert _shared_with(api, mine, snapshot) == ([{"UserId": friend}], [{"UserId": friend}])
    api.modify_snapshot_attribute(SnapshotId=snapshot, CreateVolumePermission={"Remove": [{"UserId": friend}]})
    assert _shared_with(api, mine, snapshot) == ([{"UserId": friend}], [])


def _snapshot(api: Any, image_id: str) -> str:
    return str(_image(api, image_id)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"])


def _shared_with(api: Any, image_id: str, snapshot: str) -> tuple[Any, Any]:
    of_image = api.describe_image_attribute(ImageId=image_id, Attribute="launchPermission")
    of_snapshot = api.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    return of_image["LaunchPermissions"], of_snapshot["CreateVolumePermissions"]


def test_what_the_default_key_encrypts_is_not_shared(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True}}]))
    friends = {"Add": [{"UserId": "444455556666"}]}
    assert refused(api.modify_image_attribute, ImageId=mine, LaunchPermission=friends) == "InvalidParameter"
    wanted = {"SnapshotId": _snapshot(api, mine), "CreateVolumePermission": friends}
    assert refused(api.modify_snapshot_attribute, **wanted) == "OperationNotPermitted"
