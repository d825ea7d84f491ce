"""Change labels of machines, disks and images: merge new ones into the old, with retries after concurrent changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from functools import partial
from typing import Protocol, TypeVar

from clouds.errors import CloudError
from clouds.gcp import naming, sdk
from clouds.gcp.client import Client
from clouds.gcp.failures import ChangedError
from clouds.gcp.operations import finish

_TRIES = 5


class Labelled(Protocol):
    """The fields of an instance, disk or image that `merge_labels` reads."""

    labels: MutableMapping[str, str]
    label_fingerprint: str


T = TypeVar("T", bound=Labelled)
SetLabels = Callable[[dict[str, object]], "sdk.compute.Operation"]
"""Requests new labels: takes the request fields `labels` and `label_fingerprint`, returns the operation."""


def merge_labels(
    client: Client, what: str, set_labels: SetLabels, labels: Mapping[str, str], read: Callable[[], T]
) -> tuple[T, dict[str, str]]:
    """Add or replace labels of a resource; return it as `read`, and its new labels. CloudError: five attempts failed."""
    for _ in range(_TRIES):
        thing = read()
        wanted = {**thing.labels, **naming.to_labels(labels)}
        try:
            finish(client, what, set_labels({"labels": wanted, "label_fingerprint": thing.label_fingerprint}))
        except ChangedError:
            continue
        return thing, wanted
    raise CloudError(f"{what}: labels keep changing; gave up after {_TRIES} attempts", next_step="Try again.")


def label_disks(client: Client, instance: sdk.compute.Instance, labels: Mapping[str, str]) -> None:
    """Add or replace labels of a machine's boot disk, by which `gc` identifies a disk whose machine was deleted without it.

    A disk has its own labels (disks.setLabels), which are independent of the instance's.
    """
    for disk in instance.disks:
        if disk.boot and "/zones/" in disk.source:
            zone, _, name = disk.source.partition("/zones/")[2].split("/")
            _label_disk(client, zone, name, labels)


def _label_disk(client: Client, zone: str, name: str, labels: Mapping[str, str]) -> None:
    what, disks = f"disk {name!r}", client.services.disks

    def set_labels(fields: dict[str, object]) -> sdk.compute.Operation:
        return client.relabel(what, disks.set_labels_unary, zone=zone, resource=name, zone_set_labels_request_resource=fields)

    merge_labels(client, what, set_labels, labels, partial(client.ask, what, disks.get, zone=zone, disk=name))
