"""The EC2 server: each write may fail before its effect, or after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import internal_error
from tests.servers.ec2_asking import KEY, STATE_S, base, boot, image, machine, refused

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

Prepare = Callable[["Ec2", Any], dict[str, Any]]


def _snapshot(ec2: Ec2, api: Any) -> dict[str, Any]:
    mine = image(ec2, api, boot(ec2, api))
    disk = api.describe_images(ImageIds=[mine])["Images"][0]["BlockDeviceMappings"][0]
    api.deregister_image(ImageId=mine)
    return {"SnapshotId": disk["Ebs"]["SnapshotId"]}


def _volume(ec2: Ec2, api: Any) -> dict[str, Any]:
    made = api.create_volume(AvailabilityZone="us-east-1a", Size=1)
    ec2.advance(STATE_S)
    return {"VolumeId": made["VolumeId"]}


def _stopped(ec2: Ec2, api: Any) -> dict[str, Any]:
    one = boot(ec2, api)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    return {"InstanceIds": [one]}


def _key(ec2: Ec2, api: Any) -> dict[str, Any]:
    api.import_key_pair(KeyName="mine", PublicKeyMaterial=KEY.encode())
    return {"KeyName": "mine"}


def _group(ec2: Ec2, api: Any) -> dict[str, Any]:
    return {"GroupId": api.create_security_group(GroupName="web", Description="any")["GroupId"]}


WRITES: dict[str, Prepare] = {
    "RunInstances": lambda ec2, api: machine(api),
    "StartInstances": _stopped,
    "StopInstances": lambda ec2, api: {"InstanceIds": [boot(ec2, api)]},
    "TerminateInstances": lambda ec2, api: {"InstanceIds": [boot(ec2, api)]},
    "CreateImage": lambda ec2, api: {"InstanceId": boot(ec2, api), "Name": "mine"},
    "CopyImage": lambda ec2, api: {"SourceImageId": base(api), "SourceRegion": "us-east-1", "Name": "copy"},
    "DeregisterImage": lambda ec2, api: {"ImageId": image(ec2, api, boot(ec2, api))},
    "CreateSnapshot": _volume,
    "DeleteSnapshot": _snapshot,
    "CreateVolume": lambda ec2, api: {"AvailabilityZone": "us-east-1a", "Size": 1},
    "DeleteVolume": _volume,
    "ImportKeyPair": lambda ec2, api: {"KeyName": "mine", "PublicKeyMaterial": KEY.encode()},
    "DeleteKeyPair": _key,
    "CreateSecurityGroup": lambda ec2, api: {"GroupName": "web", "Description": "any"},
    "DeleteSecurityGroup": _group,
    "AllocateAddress": lambda ec2, api: {"Domain": "vpc"},
    "ReleaseAddress": lambda ec2, api: {"AllocationId": api.allocate_address(Domain="vpc")["AllocationId"]},
}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("action", WRITES)
def test_a_write_may_fail_before_or_after_its_effect(ec2: Ec2, api: Any, action: str, when: str) -> None:
    from botocore import xform_name

    wanted = WRITES[action](ec2, api)
    before = ec2.inventory()
    ec2.fault(action, when=when, error=internal_error())
    assert refused(getattr(api, xform_name(action)), **wanted) == "InternalError"
    assert (ec2.inventory() != before) is (when == "after")
