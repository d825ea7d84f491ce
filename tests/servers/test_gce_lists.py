"""The Compute Engine server: filters, order, pages, masks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.servers.asking import ZONE, ask, boot, done, get
from tests.servers.gce import Gce, serve

MACHINES: dict[str, dict[str, Any]] = {
    "bake-a": {"labels": {"owner": "ann", "state": "candidate"}},
    "bake-b": {"labels": {"owner": "bob"}},
    "test-c": {"labels": {"owner": "ann"}, "scheduling": {"provisioningModel": "SPOT"}},
    "test-d": {},
}


@pytest.fixture(scope="module")
def full() -> Iterator[Gce]:
    """Give a server with a few machines, the last of which is off."""
    with serve(operation_s=0.001) as gce:
        for name, changes in MACHINES.items():
            boot(gce, name, **changes)
        done(gce, "POST", f"{ZONE}/instances/test-d/stop")
        yield gce


def names(gce: Gce, **query: Any) -> list[str]:
    return [item["name"] for item in get(gce, f"{ZONE}/instances", **query).get("items", [])]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("labels.owner=ann", "bake-a test-c"),
        ("labels.owner = ann labels.state = candidate", "bake-a"),
        ("(labels.owner = ann) AND (status = RUNNING)", "bake-a test-c"),
        ("labels.owner=ann OR labels.owner=bob", "bake-a bake-b test-c"),
        ("status=RUNNING AND labels.owner=bob OR name=bake-a", "bake-a bake-b"),
        ("labels.owner:*", "bake-a bake-b test-c"),
        ("NOT labels.owner:*", "test-d"),
        ("-labels.owner:*", "test-d"),
        ("labels.owner!=ann", "bake-b test-d"),
        ('name="bake-*"', "bake-a bake-b"),
        ("name:BAKE", "bake-a bake-b"),
        ("name eq bake-.*", "bake-a bake-b"),
        ("name ne 'bake-.*'", "test-c test-d"),
        ("(name eq bake-.*) (status eq RUNNING)", "bake-a bake-b"),
        ("scheduling.automaticRestart=false", "test-c"),
        ("status != RUNNING", "test-d"),
        ('creationTimestamp > "2026-01-01T00:00:00Z"', "bake-a bake-b test-c test-d"),
        ('creationTimestamp < "2026-01-01T00:00:00-07:00"', ""),
        ("id > 1", "bake-a bake-b test-c test-d"),
    ],
)
def test_a_filter_selects(full: Gce, text: str, wanted: str) -> None:
    assert names(full, filter=text) == wanted.split()


def test_a_list_is_ordered_by_name(full: Gce) -> None:
    assert names(full) == sorted(MACHINES)


def test_the_newest_may_come_first(full: Gce) -> None:
    assert names(full, orderBy="creationTimestamp desc") == sorted(MACHINES, reverse=True)


def test_a_list_comes_in_pages(full: Gce) -> None:
    first = get(full, f"{ZONE}/instances", maxResults=3)
    second = get(full, f"{ZONE}/instances", maxResults=3, pageToken=first["nextPageToken"])
    assert [len(page["items"]) for page in (first, second)] == [3, 1]
    assert "nextPageToken" not in second


def test_an_empty_list_has_no_items(full: Gce) -> None:
    assert "items" not in get(full, "zones/us-central1-b/instances")


def test_an_aggregated_list_tells_each_zone(full: Gce) -> None:
    items = get(full, "aggregated/instances")["items"]
    assert [item["name"] for item in items[ZONE]["instances"]] == sorted(MACHINES)
    assert items["zones/us-east1-b"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"


def test_an_aggregated_list_comes_in_pages(full: Gce) -> None:
    first = get(full, "aggregated/instances", maxResults=3)
    second = get(full, "aggregated/instances", maxResults=3, pageToken=first["nextPageToken"], returnPartialSuccess="true")
    assert [len(page["items"][ZONE]["instances"]) for page in (first, second)] == [3, 1]


@pytest.mark.parametrize("mask", ["items(name,status)", "items/name,items/status"])
def test_a_mask_selects_fields(full: Gce, mask: str) -> None:
    answer = get(full, f"{ZONE}/instances", fields=mask, maxResults=1)
    assert answer == {"items": [{"name": "bake-a", "status": "RUNNING"}]}


def test_a_broken_mask_is_refused(full: Gce) -> None:
    assert ask(full, "GET", f"{ZONE}/instances", fields="items(name").status == 400


def test_machine_types_differ_by_zone(full: Gce) -> None:
    a, f = ({item["name"] for item in get(full, f"zones/us-central1-{zone}/machineTypes")["items"]} for zone in "af")
    assert "n4-standard-2" in a - f


def test_the_project_tells_its_name(full: Gce) -> None:
    assert get(full, "")["name"] == "demo"
