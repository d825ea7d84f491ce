"""What `doctor` finds of an account of AWS."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from clouds.aws import diagnosis
from clouds.capabilities import Diagnoses
from clouds.findings import Finding, Health, Size
from tests import needed
from tests.clouds.aws.stage import Stage

pytestmark = pytest.mark.server
SIZE = Size(cpus=4, memory_mb=4096, disk_gb=10)


def found(stage: Stage, largest: Size = SIZE) -> Mapping[str, list[Finding]]:
    cloud = stage.connect()
    assert isinstance(cloud, Diagnoses)
    return {name: check() for name, check in cloud.checks(largest).items()}


def assume(stage: Stage, role: str) -> None:
    from tests.servers.ec2.iam import Policy

    stage.server.policy = Policy(needed.aws(role))


def test_account_that_is_ready_has_only_good_findings_and_nothing_is_made(stage: Stage) -> None:
    all_of_them = found(stage)
    assert {one.state for findings in all_of_them.values() for one in findings} == {Health.OK}
    assert stage.server.account in all_of_them["credentials"][0].text
    assert "us-east-1a" in all_of_them["network"][0].text
    assert stage.left() == []


def test_quota_counts_what_runs(stage: Stage) -> None:
    stage.boot()
    [quota] = found(stage)["quota"]
    assert quota.text == "2 of 64 vCPUs of on-demand instances are used, 4 needed"
    [quota] = found(stage, Size(cpus=63, memory_mb=1024, disk_gb=8))["quota"]
    assert (quota.state, "servicequotas" in quota.next_step) == (Health.PROBLEM, True)


@pytest.mark.parametrize(("role", "other"), [("bake", "launch"), ("launch", "bake")])
def test_dry_runs_tell_who_may_bake_and_who_may_launch(stage: Stage, role: str, other: str) -> None:
    assume(stage, role)
    by_work = dict(zip(("bake", "launch"), found(stage)["permissions"], strict=True))
    assert (by_work[role].state, by_work[other].state) == (Health.OK, Health.WARNING)
    assert f"docs/permissions/aws-{other}.json" in by_work[other].next_step


def test_quota_that_must_not_be_read_is_unknown(stage: Stage) -> None:
    assume(stage, "rebuild")
    cloud = stage.connect()
    [quota] = cloud.checks(SIZE)["quota"]()
    assert quota.state is Health.UNKNOWN
    assert "GetServiceQuota" in quota.text


def test_credentials_that_expire_soon_are_a_warning(stage: Stage) -> None:
    class Client:
        account = "1"
        expires_at = datetime.now(UTC) + timedelta(minutes=5)

    [soon] = diagnosis._credentials(Client())  # type: ignore[arg-type]
    assert soon.state is Health.WARNING
    Client.expires_at += timedelta(hours=9)
    assert diagnosis._credentials(Client())[0].state is Health.OK  # type: ignore[arg-type]
