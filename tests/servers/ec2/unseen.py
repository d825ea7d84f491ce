"""Eventual consistency: for a number of calls, describes do not see what was created, and writes that name it fail.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.servers.ec2 import ids
from tests.servers.ec2.cloud import Cloud

Tree = dict[str, Any]

_KINDS = {
    "DescribeInstances": "i",
    "DescribeInstanceStatus": "i",
    "DescribeImages": "ami",
    "DescribeVolumes": "vol",
    "DescribeSnapshots": "snap",
    "DescribeSpotInstanceRequests": "sir",
    "DescribeSecurityGroups": "sg",
    "DescribeKeyPairs": "key",
    "DescribeAddresses": "eipalloc",
}


def things(backend: Any) -> dict[str, Any]:
    """Return everything whose creation may go unseen, by id."""
    found = [*backend.amis.values(), *backend.volumes.values(), *backend.snapshots.values()]
    found += [*backend.spot_instance_requests.values(), *backend.key_pairs.values(), *backend.addresses]
    found += [group for groups in backend.groups.values() for group in groups.values()]
    found += [instance for reservation in backend.reservations.values() for instance in reservation.instances]
    return {thing.id: thing for thing in found}


def note_new(cloud: Cloud, backend: Any, before: set[str]) -> None:
    """Hide what a request has made."""
    switches = cloud.switches
    if switches.unseen_calls or switches.untagged_calls:
        for thing_id in set(things(backend)) - before:
            if switches.unseen_calls:
                cloud.unseen[thing_id] = switches.unseen_calls
            if switches.untagged_calls:
                cloud.untagged[thing_id] = switches.untagged_calls


@contextmanager
def lagging(cloud: Cloud, backend: Any, action: str, tree: Tree) -> Iterator[None]:
    """Serve a request as a service that lags behind: raises ApiError for a write that names what is not seen yet."""
    kind = _KINDS.get(action)
    if kind is None:
        _refuse(cloud, tree)
        yield
        return
    hidden = _count_down(cloud.unseen, kind)
    if any(item["Name"].startswith(("tag:", "tag-")) for item in tree.get("Filters", [])):
        hidden |= _count_down(cloud.untagged, kind)
    if not hidden:
        yield
        return
    _check_named(tree, hidden)
    with _without(backend, hidden):
        yield


def _refuse(cloud: Cloud, tree: Tree) -> None:
    for value in _texts(tree):
        if value in cloud.unseen:
            if cloud.switches.writes_count:
                _count(cloud.unseen, value)
            raise ids.absent(value)


def _check_named(tree: Tree, hidden: set[str]) -> None:
    for value in _texts({key: value for key, value in tree.items() if key != "Filters"}):
        if value in hidden:
            raise ids.absent(value)


def _count_down(left: dict[str, int], kind: str) -> set[str]:
    """Return what is hidden from this call; each call of its kind brings it nearer to being seen."""
    hidden = {thing_id for thing_id in left if ids.prefix_of(thing_id) == kind}
    for thing_id in hidden:
        _count(left, thing_id)
    return hidden


def _count(left: dict[str, int], thing_id: str) -> None:
    left[thing_id] -= 1
    if not left[thing_id]:
        del left[thing_id]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value


@contextmanager
def _without(backend: Any, hidden: set[str]) -> Iterator[None]:
    """Take some resources out of moto's collections for the length of a describe, which changes nothing."""
    names = ("amis", "volumes", "snapshots", "spot_instance_requests", "key_pairs", "addresses", "groups", "reservations")
    kept = {name: getattr(backend, name) for name in names}
    for name in ("amis", "volumes", "snapshots", "spot_instance_requests", "key_pairs"):
        setattr(backend, name, {key: thing for key, thing in kept[name].items() if thing.id not in hidden})
    backend.addresses = [address for address in kept["addresses"] if address.id not in hidden]
    backend.groups = {
        vpc: {key: group for key, group in groups.items() if key not in hidden} for vpc, groups in kept["groups"].items()
    }
    backend.reservations = {key: _seen(reservation, hidden) for key, reservation in kept["reservations"].items()}
    try:
        yield
    finally:
        for name, collection in kept.items():
            setattr(backend, name, collection)


def _seen(reservation: Any, hidden: set[str]) -> Any:
    seen = copy.copy(reservation)
    seen.instances = [instance for instance in reservation.instances if instance.id not in hidden]
    return seen
