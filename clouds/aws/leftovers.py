"""What can be left of a machine or an image that is gone: volumes, snapshots, security groups."""

from __future__ import annotations

import time
from collections.abc import Mapping

from clouds import names
from clouds.aws import images, naming, network
from clouds.aws.client import Client
from clouds.aws.instances import groups_of, seconds
from clouds.aws.lookup import Lookup
from clouds.driver import Kind, Resource, State
from clouds.errors import NotFoundError

_GIB = 2**30
_YOUNG_S = 600.0
"""For how long a snapshot counts as part of an image that may not be listed yet."""


def disks(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    """Return the volumes that no machine uses and the snapshots that no image uses, of those that carry all these labels."""
    return [*_volumes(client, labels), *_snapshots(client, labels)]


def _volumes(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    listed = client.items("volumes", "describe_volumes", "Volumes", Filters=naming.tag_filters(labels, status="available"))
    return [
        Resource(
            kind=Kind.DISK,
            name=one["VolumeId"],
            state=State.READY,
            labels=naming.from_tags(one),
            created_at=seconds(one["CreateTime"]),
            size_bytes=one["Size"] * _GIB,
            zone=one["AvailabilityZone"],
            type=one["VolumeType"],
        )
        for one in listed
        if labels.items() <= naming.from_tags(one).items()
    ]


def _snapshots(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    found = [one for one in images.our_snapshots(client, labels) if time.time() - seconds(one["StartTime"]) > _YOUNG_S]
    used: set[str] = set()
    if found:
        listed = client.items("images", "describe_images", "Images", Owners=["self"], IncludeDisabled=True)
        used = {snapshot for ami in listed for snapshot in images.snapshots_of(ami)}
    return [
        Resource(
            kind=Kind.DISK,
            name=one["SnapshotId"],
            state=State.READY,
            labels=naming.from_tags(one),
            created_at=seconds(one["StartTime"]),
            size_bytes=one["VolumeSize"] * _GIB,
        )
        for one in found
        if one["SnapshotId"] not in used
    ]


def orphan_groups(client: Client, labels: Mapping[str, str], machines: Lookup) -> list[Resource]:
    """Return the security groups of machines that no machine uses, of those that carry all these labels."""
    groups = list(network.our_groups(client, labels))
    used = {group for instance in (machines.all({}) if groups else ()) for group in groups_of(instance)}
    return [
        Resource(
            kind=Kind.RULE,
            name=group["GroupName"],
            state=State.READY,
            labels=naming.from_tags(group),
            created_at=float(names.number(naming.from_tags(group), "created")),
        )
        for group in groups
        if group["GroupId"] not in used
    ]


def delete_disk(client: Client, name: str) -> None:
    """Delete a volume or a snapshot; absent is a success."""
    try:
        if name.startswith("snap-"):
            client.ask(f"snapshot {name}", "delete_snapshot", SnapshotId=name)
        else:
            client.ask(f"volume {name}", "delete_volume", VolumeId=name)
    except NotFoundError:
        return
