"""What `doctor` finds of a project of Google Cloud."""

from __future__ import annotations

import pytest

import clouds
from clouds.capabilities import Diagnoses
from clouds.findings import Finding, Health, Size
from tests import needed
from tests.clouds.gcp.stage import NewStage, Stage
from tests.servers.gce.iam import Role

SIZE = Size(cpus=2, memory_mb=4096, disk_gb=10)


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    return new_stage(quotas={"CPUS": 2})


def check(stage: Stage, name: str, largest: Size = SIZE) -> list[Finding]:
    cloud = stage.connect()
    assert isinstance(cloud, Diagnoses)
    return cloud.checks(largest)[name]()


def test_project_that_is_ready_has_only_good_findings(stage: Stage) -> None:
    cloud = stage.connect()
    found = [one for run in cloud.checks(SIZE).values() for one in run()]
    assert [one for one in found if one.state is not Health.OK] == []
    assert any("project demo, region us-central1" in one.text for one in found)


def test_quota_that_is_too_small_is_named_with_what_is_needed(stage: Stage) -> None:
    [found] = check(stage, "quota", Size(cpus=4, memory_mb=4096, disk_gb=10))
    assert (found.state, found.text) == (Health.PROBLEM, "CPUS in us-central1: 0 of 2 used, 4 needed")
    assert "iam-admin/quotas" in found.next_step


@pytest.mark.parametrize("role", ["bake", "launch"])
def test_permissions_that_are_missing_are_named_by_work(stage: Stage, role: str) -> None:
    stage.server.role = Role(needed.gcp(role))
    found = check(stage, "permissions")
    states = dict(zip(("bake", "launch", "rebuild"), (one.state for one in found), strict=True))
    assert [work for work, state in states.items() if state is Health.OK] == [role]
    [other] = [one for one in found if f"missing to {'launch' if role == 'bake' else 'bake'}" in one.text]
    assert ("compute.instances.start" if role == "bake" else "compute.images.create") in other.text
    assert f"docs/permissions/gcp-{'launch' if role == 'bake' else 'bake'}.yaml" in other.next_step


def test_api_that_is_not_enabled_is_a_problem_and_the_command_is_named(stage: Stage) -> None:
    stage.server.switches.disabled_services = {"compute.googleapis.com"}
    rows = doctor(stage)
    assert rows["project"][0].state is Health.PROBLEM
    assert "gcloud services enable compute.googleapis.com" in rows["project"][0].next_step


def test_permissions_that_cannot_be_looked_up_are_unknown(stage: Stage) -> None:
    stage.server.switches.disabled_services = {"cloudresourcemanager.googleapis.com"}
    [found] = check(stage, "permissions")
    assert found.state is Health.UNKNOWN
    assert "gcloud services enable cloudresourcemanager.googleapis.com" in found.next_step


def test_a_role_is_enough_for_these_checks(stage: Stage) -> None:
    for role in ("bake", "launch"):
        stage.server.role = Role(needed.gcp(role))
        for name in ("credentials", "project", "quota"):
            assert [one.state for one in check(stage, name)] == [Health.OK]


def doctor(stage: Stage) -> dict[str, list[Finding]]:
    from bakery.doctor import examine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
        rows: dict[str, list[Finding]] = {}
        for row in examine(lambda: ["gcp"]):
            rows.setdefault(row.check if row.cloud == "gcp" else f"here: {row.check}", []).append(row.finding)
    return rows


def test_what_a_dead_client_has_left_and_old_images_are_findings(stage: Stage) -> None:
    found = doctor(stage)
    assert [one.text for one in found["images"]] == ["no images"]
    assert [one.text for one in found["leftovers"]] == ["nothing is left behind"]
