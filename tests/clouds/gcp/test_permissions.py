"""The permissions that docs/clouds.md names: for every request that the driver makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.clouds.gcp.test_leaks import BAKE, LAUNCH

DOCUMENT = Path(__file__).parents[3] / "docs/clouds.md"
SELDOM = {
    "addresses.aggregatedList",
    "addresses.delete",
    "addresses.get",
    "addresses.insert",
    "disks.aggregatedList",
    "disks.delete",
    "firewalls.get",
    "firewalls.list",
    "firewalls.patch",
    "images.delete",
    "instances.resume",
    "instances.setDiskAutoDelete",
    "instances.setMetadata",
    "instances.setScheduling",
    "instances.start",
    "instances.suspend",
    "machineTypes.aggregatedList",
    "machineTypes.get",
    "regionOperations.wait",
    "zones.list",
}
"""What is asked for beyond a good bake and a good launch."""


def table() -> dict[str, set[str]]:
    """Return the permissions by method."""
    text = DOCUMENT.read_text(encoding="utf-8").partition("### Permissions")[2].partition("\n### ")[0]
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        permissions, _, methods = line.strip("| ").partition(" | ")
        for method in re.findall(r"`([a-zA-Z]+\.[a-zA-Z]+)`", methods):
            found.setdefault(method, set()).update(re.findall(r"`((?:compute|iam)\.[a-zA-Z.]+)`", permissions))
    return found


@pytest.mark.parametrize("method", sorted(BAKE | LAUNCH | SELDOM))
def test_every_request_has_its_permissions_in_the_document(method: str) -> None:
    collection = method.partition(".")[0]
    assert any(f"compute.{collection}." in permission for permission in table()[method])


def test_no_permission_is_asked_for_that_no_request_needs() -> None:
    assert set(table()) == BAKE | LAUNCH | SELDOM
