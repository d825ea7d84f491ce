"""Addresses and disks of one name in several regions or zones: only the one that was found is deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clouds.driver import Kind
from clouds.errors import ConflictError
from clouds.ledger import Ledger
from launcher.addresses import delete_address, find_address
from launcher.kept_disks import delete_disk, find_disk
from tests.clouds.gcp.stub import BASE, Stub, operation

HERE, THERE = "europe-west1", "us-central1"
KEPT = {"project": "bakehouse", "role": "machine", "machine": "lab", "keep-disk": "1"}


def address(region: str, *, created: str = "2026-01-01T00:00:00Z") -> dict[str, Any]:
    facts = {"name": "front", "description": "project=bakehouse role=address", "creationTimestamp": created}
    return {f"regions/{region}": {"addresses": [{**facts, "region": f"{BASE}regions/{region}"}]}}


def disk(zone: str, *, created: str, **labels: str) -> dict[str, Any]:
    facts = {"name": "lab", "labels": labels, "creationTimestamp": created, "type": "pd-balanced", "sizeGb": "10"}
    return {f"zones/{zone}": {"disks": [{**facts, "zone": f"{BASE}zones/{zone}"}]}}


def deletes(service: Stub) -> list[str]:
    return [key.removeprefix("DELETE ") for key in service.asked if key.startswith("DELETE ")]


def test_address_that_was_found_is_released_although_an_older_one_of_its_name_has_come(tmp_path: Path) -> None:
    before, after = address(HERE), {**address(THERE, created="2020-01-01T00:00:00Z"), **address(HERE)}
    path = f"regions/{HERE}/addresses/front"
    service = Stub(
        {
            "GET aggregated/addresses": [{"items": before}, {"items": after}],
            f"DELETE {path}": operation("op", path, scope=f"regions/{HERE}"),
            f"POST regions/{HERE}/operations/op/wait": operation("op", path, scope=f"regions/{HERE}"),
        }
    )
    cloud, ledger = service.cloud(tmp_path), Ledger(tmp_path / "ledger.sqlite3")
    delete_address(cloud, ledger, find_address(cloud, "front"))
    assert deletes(service) == [path]


def test_disk_of_somebody_else_with_the_name_of_a_kept_one_stays(tmp_path: Path) -> None:
    theirs, ours = disk(f"{THERE}-a", created="2020-01-01T00:00:00Z"), disk(f"{HERE}-b", created="2026-01-01T00:00:00Z", **KEPT)
    path = f"zones/{HERE}-b/disks/lab"
    service = Stub(
        {
            "GET aggregated/disks": [{"items": ours}, {"items": {**theirs, **ours}}],  # the first list is filtered by labels
            f"DELETE {path}": operation("op", path, scope=f"zones/{HERE}-b"),
            f"POST zones/{HERE}-b/operations/op/wait": operation("op", path, scope=f"zones/{HERE}-b"),
        }
    )
    cloud, ledger = service.cloud(tmp_path), Ledger(tmp_path / "ledger.sqlite3")
    delete_disk(cloud, ledger, find_disk(cloud, "lab"))
    assert deletes(service) == [path]


@pytest.mark.parametrize("kind", [Kind.ADDRESS, Kind.DISK])
def test_name_alone_deletes_nothing_if_several_have_it(tmp_path: Path, kind: Kind) -> None:
    disks = {**disk(f"{HERE}-b", created="2026-01-01T00:00:00Z"), **disk(f"{THERE}-a", created="2026-01-01T00:00:00Z")}
    addresses = {**address(HERE), **address(THERE)}
    service = Stub({"GET aggregated/disks": {"items": disks}, "GET aggregated/addresses": {"items": addresses}})
    with pytest.raises(ConflictError, match=f"there is one in each of {HERE}(-b)?, {THERE}"):
        service.cloud(tmp_path).delete(kind, "lab" if kind is Kind.DISK else "front")
    assert deletes(service) == []
