"""Unreachable zones: the results of the others are reported, and nothing is concluded about the missing ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clouds.driver import Kind
from clouds.errors import UnreachableError
from tests.clouds.gcp.stub import BASE, Stub, instance, operation, unreachable

ZONE = "zones/us-central1-a"
OTHER = "us-east1-b"


def by_list_alone(found: dict[str, Any]) -> dict[str, Any]:
    return {"items": {ZONE: found}, "unreachables": [f"{BASE}zones/{OTHER}"]}


def by_warning_alone(found: dict[str, Any]) -> dict[str, Any]:
    return {"items": {ZONE: found, f"zones/{OTHER}": {"warning": {"code": "UNREACHABLE"}}}}


def of_the_whole_page(found: dict[str, Any]) -> dict[str, Any]:
    return {"items": {ZONE: found}, "warning": {"code": "UNREACHABLE"}}


@pytest.mark.parametrize("written", [by_list_alone, by_warning_alone])
def test_machines_of_the_other_zones_come_with_the_error(tmp_path: Path, written: Any) -> None:
    service = Stub({"GET aggregated/instances": written({"instances": [instance("lab")]})})
    with pytest.raises(UnreachableError) as raised:
        service.cloud(tmp_path).owned({"project": "bakehouse"}, {Kind.MACHINE})
    assert raised.value.scopes == (OTHER,)
    assert [found.name for found in raised.value.found] == ["lab"]
    assert OTHER in raised.value.message
    assert service.queries["GET aggregated/instances"]["returnPartialSuccess"] == ["true"]


def test_page_that_names_no_zone_is_not_taken_for_whole(tmp_path: Path) -> None:
    service = Stub({"GET aggregated/instances": of_the_whole_page({})})
    with pytest.raises(UnreachableError):
        service.cloud(tmp_path).owned({}, {Kind.MACHINE})


def test_zone_without_results_is_no_zone_out_of_reach(tmp_path: Path) -> None:
    empty = {"items": {ZONE: {"warning": {"code": "NO_RESULTS_ON_PAGE"}}}}
    assert Stub({"GET aggregated/instances": empty}).cloud(tmp_path).owned({}, {Kind.MACHINE}) == []


def test_machine_that_is_seen_is_found_although_a_zone_is_out_of_reach(tmp_path: Path) -> None:
    service = Stub({"GET aggregated/instances": unreachable(OTHER, instances=[instance("lab")])})
    found = service.cloud(tmp_path).find(Kind.MACHINE, "lab")
    assert found and found.zone == "us-central1-a"


@pytest.mark.parametrize("kind", [Kind.MACHINE, Kind.DISK, Kind.ADDRESS])
def test_what_is_not_seen_is_not_called_absent(tmp_path: Path, kind: Kind) -> None:
    collection = {Kind.MACHINE: "instances", Kind.DISK: "disks", Kind.ADDRESS: "addresses"}[kind]
    service = Stub({f"GET aggregated/{collection}": unreachable(OTHER)})
    with pytest.raises(UnreachableError, match=OTHER):
        service.cloud(tmp_path).find(kind, "lab")


def test_rule_whose_machine_may_be_out_of_reach_is_no_orphan(tmp_path: Path) -> None:
    rules = {"items": [{"name": "bakehouse-lab-ssh", "description": "machine=lab project=bakehouse"}]}
    service = Stub({"GET global/firewalls": rules, "GET aggregated/instances": unreachable(OTHER)})
    with pytest.raises(UnreachableError) as raised:
        service.cloud(tmp_path).owned({"project": "bakehouse"}, {Kind.RULE})
    assert raised.value.found == []


def test_all_kinds_are_listed_past_one_that_is_incomplete(tmp_path: Path) -> None:
    disk = {"name": "left", "zone": f"{BASE}{ZONE}", "labels": {"project": "bakehouse"}}
    service = Stub(
        {
            "GET aggregated/instances": unreachable(OTHER),
            "GET aggregated/disks": {"items": {ZONE: {"disks": [disk]}}},
            "GET aggregated/addresses": {},
            "GET global/images": {},
            "GET global/firewalls": {},
        }
    )
    with pytest.raises(UnreachableError) as raised:
        service.cloud(tmp_path).owned({"project": "bakehouse"})
    assert [found.name for found in raised.value.found] == ["left"]


def test_rule_that_its_machine_does_not_carry_is_an_orphan(tmp_path: Path) -> None:
    """Such as one that was made for a name which another machine turned out to have."""
    rules = [{"name": f"bakehouse-lab-{access}", "description": "machine=lab"} for access in ("ssh", "https")]
    lab = instance("lab", tags={"items": ["bakehouse-lab-ssh"]})
    service = Stub({"GET global/firewalls": {"items": rules}, "GET aggregated/instances": {"items": {ZONE: {"instances": [lab]}}}})
    assert [found.name for found in service.cloud(tmp_path).owned({}, {Kind.RULE})] == ["bakehouse-lab-https"]


# The labels of a disk


def test_labels_of_a_machine_are_laid_over_those_of_its_boot_disk(tmp_path: Path) -> None:
    disk = f"{ZONE}/disks/lab"
    disks = [{"boot": True, "source": BASE + disk}, {"boot": False, "source": f"{BASE}{ZONE}/disks/data"}]
    lab = instance("lab", labelFingerprint="a1", disks=disks)
    done = operation("go", disk)
    service = Stub(
        {
            "GET aggregated/instances": {"items": {ZONE: {"instances": [lab]}}},
            f"POST {ZONE}/instances/lab/setLabels": done,
            f"GET {disk}": {"name": "lab", "labels": {"role": "machine-in-progress", "mine": "yes"}, "labelFingerprint": "d1"},
            f"POST {disk}/setLabels": done,
            f"POST {ZONE}/operations/go/wait": done,
        }
    )
    service.cloud(tmp_path).label(Kind.MACHINE, "lab", {"role": "machine"})
    laid = service.bodies[f"POST {disk}/setLabels"]
    assert laid == {"labels": {"role": "machine", "mine": "yes"}, "labelFingerprint": "d1"}


def test_boot_disk_of_a_region_keeps_its_labels(tmp_path: Path) -> None:
    """Bakehouse makes disks of a zone alone."""
    disks = [{"boot": True, "source": f"{BASE}regions/us-central1/disks/lab"}]
    listed = {"items": {ZONE: {"instances": [instance("lab", labelFingerprint="a1", disks=disks)]}}}
    done = operation("go", f"{ZONE}/instances/lab")
    labels, wait = f"POST {ZONE}/instances/lab/setLabels", f"POST {ZONE}/operations/go/wait"
    service = Stub({"GET aggregated/instances": listed, labels: done, wait: done})
    service.cloud(tmp_path).label(Kind.MACHINE, "lab", {"role": "machine"})
    assert service.asked == ["GET aggregated/instances", labels, wait]
