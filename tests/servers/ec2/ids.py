"""Ids of resources: their form, and the codes for one that is malformed or absent.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html lists the codes. Messages:
https://github.com/aws-quickstart/quickstart-confluent-kafka/issues/50, https://github.com/hashicorp/terraform/issues/22172.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tests.servers.ec2.errors import ApiError

_KINDS = {
    "InstanceId": ("i", "InvalidInstanceID", "instance ID"),
    "ImageId": ("ami", "InvalidAMIID", "image id"),
    "SourceImageId": ("ami", "InvalidAMIID", "image id"),
    "VolumeId": ("vol", "InvalidVolumeID", "volume"),
    "SnapshotId": ("snap", "InvalidSnapshotID", "snapshot"),
    "GroupId": ("sg", "InvalidGroupId", "security group"),
    "SecurityGroupId": ("sg", "InvalidGroupId", "security group"),
    "SpotInstanceRequestId": ("sir", "InvalidSpotInstanceRequestID", "spot instance request ID"),
}
_ABSENT = {
    "i": ("InvalidInstanceID.NotFound", "The instance ID '{}' does not exist"),
    "ami": ("InvalidAMIID.NotFound", "The image id '[{}]' does not exist"),
    "vol": ("InvalidVolume.NotFound", "The volume '{}' does not exist."),
    "snap": ("InvalidSnapshot.NotFound", "The snapshot '{}' does not exist."),
    "sg": ("InvalidGroup.NotFound", "The security group '{}' does not exist"),
    "sir": ("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID '{}' does not exist"),
    "eipalloc": ("InvalidAllocationID.NotFound", "The allocation ID '{}' does not exist"),
    "key": ("InvalidKeyPair.NotFound", "The key pair '{}' does not exist"),
}


def absent(thing_id: str) -> ApiError:
    """Return the error that names a resource which does not exist (or is not seen yet)."""
    code, message = _ABSENT.get(prefix_of(thing_id), ("InvalidID", "The ID '{}' is not valid"))
    return ApiError(code, message.format(thing_id))


def has_code(thing_id: str) -> bool:
    """Return whether `absent` knows the code for such an id."""
    return prefix_of(thing_id) in _ABSENT


def prefix_of(thing_id: str) -> str:
    return thing_id.split("-")[0]


def check(found: Any) -> None:
    """Refuse ids of a wrong form anywhere in the parameters of a request; raises ApiError."""
    for name, value in _ids(found):
        prefix, code, _ = _KINDS[name]
        if value.startswith("resolve:ssm:") and name == "ImageId":
            continue
        if not re.fullmatch(rf"{prefix}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", value):
            expecting = "" if prefix == "i" else f' (expecting "{prefix}-...")'
            raise ApiError(f"{code}.Malformed", f'Invalid id: "{value}"{expecting}')


def _ids(found: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(found, dict):
        for key, value in found.items():
            yield from _ids(value, key)
    elif isinstance(found, list):
        for value in found:
            yield from _ids(value, name.removesuffix("s"))
    elif isinstance(found, str) and name in _KINDS:
        yield name, found
