"""The EC2 server: volumes and snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import LateError
from tests.servers.ec2_asking import IMAGE_S, STATE_S, boot, refusal, refused
from tests.servers.vm import ScriptedVms

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

ZONE = "us-east-1a"


def _volume(ec2: Ec2, api: Any, **changes: Any) -> str:
    volume_id = str(api.create_volume(**{"AvailabilityZone": ZONE, "Size": 2, **changes})["VolumeId"])
    ec2.advance(STATE_S)
    return volume_id


def _state(api: Any, volume_id: str) -> str:
    return str(api.describe_volumes(VolumeIds=[volume_id])["Volumes"][0]["State"])


def test_a_volume_is_made_in_its_time_and_has_a_disk(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = api.create_volume(AvailabilityZone=ZONE, Size=2)["VolumeId"]
    assert (_state(api, one), vms.disks) == ("creating", {one: ""})
    ec2.advance(STATE_S)
    assert _state(api, one) == "available"
    api.delete_volume(VolumeId=one)
    assert (vms.disks, refused(api.describe_volumes, VolumeIds=[one])) == ({}, "InvalidVolume.NotFound")


def test_a_volume_is_attached_to_one_instance(ec2: Ec2, api: Any) -> None:
    one, other, volume = boot(ec2, api), boot(ec2, api), _volume(ec2, api)
    api.attach_volume(VolumeId=volume, InstanceId=one, Device="/dev/sdf")
    assert _state(api, volume) == "in-use"
    code, message, _ = refusal(api.attach_volume, VolumeId=volume, InstanceId=other, Device="/dev/sdf")
    assert (code, message) == ("VolumeInUse", f"{volume} is already attached to an instance")
    assert refused(api.delete_volume, VolumeId=volume) == "VolumeInUse"
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert _state(api, volume) == "available"


def test_a_device_is_used_once(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    api.attach_volume(VolumeId=_volume(ec2, api), InstanceId=one, Device="/dev/sdf")
    code, message, _ = refusal(api.attach_volume, VolumeId=_volume(ec2, api), InstanceId=one, Device="/dev/sdf")
    assert code == "InvalidParameterValue"
    assert message.endswith("Attachment point /dev/sdf is already in use")


def test_a_volume_of_another_zone_cannot_be_attached(ec2: Ec2, api: Any) -> None:
    volume = _volume(ec2, api, AvailabilityZone="us-east-1b")
    assert refused(api.attach_volume, VolumeId=volume, InstanceId=boot(ec2, api), Device="/dev/sdf") == "InvalidVolume.ZoneMismatch"


def test_an_attached_volume_is_there_at_the_next_boot(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one, volume = boot(ec2, api), _volume(ec2, api)
    api.attach_volume(VolumeId=volume, InstanceId=one, Device="/dev/sdf")
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    api.start_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert [drive.id for drive in vms.boots[-1].drives][1:] == [volume]


def test_detaching(ec2: Ec2, api: Any) -> None:
    one, volume = boot(ec2, api), _volume(ec2, api)
    assert refused(api.detach_volume, VolumeId=volume) == "IncorrectState"
    api.attach_volume(VolumeId=volume, InstanceId=one, Device="/dev/sdf")
    api.detach_volume(VolumeId=volume)
    assert _state(api, volume) == "available"
    root = api.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [one]}])["Volumes"][0]["VolumeId"]
    assert refused(api.detach_volume, VolumeId=root) == "OperationNotPermitted"


def test_a_snapshot_takes_its_time_and_makes_volumes(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    volume = _volume(ec2, api)
    snapshot = api.create_snapshot(VolumeId=volume)["SnapshotId"]
    assert api.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "pending"
    assert refused(api.create_volume, AvailabilityZone=ZONE, SnapshotId=snapshot) == "IncorrectState"
    ec2.advance(IMAGE_S)
    found = api.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    assert (found["State"], found["Progress"], found["VolumeSize"]) == ("completed", "100%", 2)
    copy = api.create_volume(AvailabilityZone=ZONE, SnapshotId=snapshot)
    assert (copy["Size"], vms.disks[copy["VolumeId"]], vms.images) == (2, snapshot, {snapshot: volume})


def test_a_snapshot_may_fail_late(ec2: Ec2, api: Any) -> None:
    ec2.fault("CreateSnapshot", error=LateError("Client.Any", "no room"))
    snapshot = api.create_snapshot(VolumeId=_volume(ec2, api))["SnapshotId"]
    ec2.advance(IMAGE_S)
    assert api.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]["State"] == "error"


def test_snapshots_of_others_are_not_listed(ec2: Ec2, api: Any) -> None:
    assert api.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


@pytest.mark.parametrize("goes", [True, False])
def test_whether_the_root_volume_goes_with_its_instance_can_be_changed(ec2: Ec2, api: Any, *, goes: bool) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configure-root-volume-delete-on-termination.html."""
    one = boot(ec2, api)
    [root] = api.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [one]}])["Volumes"]
    device = root["Attachments"][0]["Device"]
    for wanted in (not goes, goes):
        mapping = {"DeviceName": device, "Ebs": {"DeleteOnTermination": wanted}}
        api.modify_instance_attribute(InstanceId=one, BlockDeviceMappings=[mapping])
        [shown] = api.describe_instances(InstanceIds=[one])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
        assert shown["Ebs"]["DeleteOnTermination"] is wanted
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert [volume["State"] for volume in api.describe_volumes()["Volumes"]] == ([] if goes else ["available"])


def test_a_device_that_an_instance_lacks_cannot_be_kept(ec2: Ec2, api: Any) -> None:
    mapping = {"DeviceName": "/dev/sdq", "Ebs": {"DeleteOnTermination": False}}
    code, message, _ = refusal(api.modify_instance_attribute, InstanceId=boot(ec2, api), BlockDeviceMappings=[mapping])
    assert (code, message) == ("InvalidInstanceAttributeValue", "No device is currently mapped at /dev/sdq")
