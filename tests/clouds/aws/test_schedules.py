"""Machines on AWS whose end EventBridge Scheduler sees to: the setting `scheduler_role`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import pytest

from clouds import names
from clouds.aws import SETTINGS, session
from clouds.capabilities import EndsMachines, EndsMachinesBySetting
from clouds.driver import Base, BootSpec, End, Kind
from clouds.errors import BakehouseError, DeniedError, InvalidError, QuotaError, ThrottledError, UsageError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine, settle
from clouds.settings import Setting
from clouds.undo import Undo
from tests.clouds.aws.stage import Cloud, Stage
from tests.servers.ec2 import ApiError, internal_error
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
ROLE = "arn:aws:iam::111122223333:role/stopper"
CREATE, UPDATE, DELETE = "scheduler:CreateSchedule", "scheduler:UpdateSchedule", "scheduler:DeleteSchedule"
BUSY_S = 0.1
"""How long a schedule refuses a change after the one before it: several attempts of the driver."""


def role(stage: Stage) -> str:
    return f"arn:aws:iam::{stage.server.account}:role/stopper"


def connect(stage: Stage) -> Cloud:
    return stage.connect(scheduler_role=role(stage))


def schedules(stage: Stage) -> list[str]:
    return [line for line in stage.left() if line.startswith("schedules ")]


def asked(stage: Stage, action: str) -> list[Any]:
    return [call.params for call in stage.server.calls if f"{call.service}:{call.action}" == action]


def state(stage: Stage) -> str:
    return str(stage.instance()["State"]["Name"])


def test_a_guest_that_hangs_is_stopped_at_its_deadline_and_the_schedule_is_gone(stage: Stage) -> None:
    stage.boot(connect(stage), deadline_s=3600)
    assert len(schedules(stage)) == 1
    [order] = asked(stage, CREATE)
    assert (order["ActionAfterCompletion"], order["Target"]["RoleArn"]) == ("DELETE", role(stage))
    stage.server.advance(3500)
    assert state(stage) == "running"
    stage.server.advance(200)
    stage.server.advance(5)
    assert state(stage) == "stopped"
    assert schedules(stage) == []


def test_a_machine_that_is_deleted_at_its_deadline_is_terminated(stage: Stage) -> None:
    stage.boot(connect(stage), deadline_s=3600, at_deadline=End.DELETE)
    stage.server.advance(3700)
    stage.server.advance(5)
    assert not [line for line in stage.left() if line.startswith("instances ")]
    assert schedules(stage) == []


def test_a_machine_takes_its_schedule_along(stage: Stage) -> None:
    cloud = connect(stage)
    stage.boot(cloud)
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_a_machine_takes_its_schedule_along_also_when_the_setting_is_gone(stage: Stage) -> None:
    stage.boot(connect(stage))
    cloud = stage.connect()
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_a_start_replaces_the_schedule(stage: Stage) -> None:
    cloud = connect(stage)
    stage.boot(cloud, deadline_s=3600)
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=7200, facts={}))
    stage.server.advance(3700)
    stage.server.advance(5)
    assert state(stage) == "running"
    stage.server.advance(3700)
    stage.server.advance(5)
    assert state(stage) == "stopped"
    settle(cloud, cloud.start("mine", deadline_s=0, facts={}))
    assert schedules(stage) == []


def test_a_start_changes_the_one_schedule_of_a_machine_and_trusts_no_conflict(stage: Stage) -> None:
    """One of that name may be that of the start before, or one that is being deleted: after "it exists" it is replaced."""
    cloud = connect(stage)
    stage.boot(cloud, deadline_s=3600)
    for _ in range(2):
        settle(cloud, cloud.stop("mine"))
        settle(cloud, cloud.start("mine", deadline_s=7200, facts={}))
    assert [len(asked(stage, action)) for action in (UPDATE, DELETE)] == [2, 0]
    assert len({order["ScheduleExpression"] for order in asked(stage, UPDATE)} - {asked(stage, CREATE)[0]["ScheduleExpression"]})
    assert len(schedules(stage)) == 1


def test_a_machine_that_is_started_for_ever_and_then_for_a_time_again_has_its_schedule_again(stage: Stage) -> None:
    """All within the same minute: a request must not count as the repetition of the one before."""
    cloud = connect(stage)
    stage.boot(cloud, deadline_s=3600)
    for deadline_s, count in ((0, 0), (3600, 1)):
        settle(cloud, cloud.stop("mine"))
        settle(cloud, cloud.start("mine", deadline_s=deadline_s, facts={}))
        assert len(schedules(stage)) == count


def test_a_schedule_that_is_being_deleted_when_its_machine_starts_is_made_again(stage: Stage) -> None:
    cloud = connect(stage)
    stage.boot(cloud, deadline_s=3600)
    settle(cloud, cloud.stop("mine"))
    conflict = ApiError("ConflictException", "Schedule is being deleted.", status=409)
    stage.server.fault(CREATE, error=conflict, nth=1)
    stage.server.fault(UPDATE, error=lambda: stage.server.cloud.schedules.clear())
    settle(cloud, cloud.start("mine", deadline_s=7200, facts={}))
    assert len(schedules(stage)) == 1


def test_a_schedule_that_is_still_being_made_is_deleted_and_changed_all_the_same(stage: Stage) -> None:
    """github.com/alchemy-run/distilled/pull/248: such a change is refused for a while."""
    stage.server.switches.schedule_busy_s = BUSY_S
    cloud = connect(stage)
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=7200, facts={}))
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_a_schedule_starts_at_a_full_minute_and_not_before_the_deadline(stage: Stage) -> None:
    before = time.time()
    stage.boot(connect(stage), deadline_s=3600)
    [order] = asked(stage, CREATE)
    assert order["ScheduleExpression"].endswith(":00)")
    at = datetime.fromisoformat(order["ScheduleExpression"].removeprefix("at(").removesuffix(")")).replace(tzinfo=UTC)
    assert before + 3600 <= at.timestamp() <= time.time() + 3660


def test_a_role_of_another_account_is_refused_before_anything_is_made(stage: Stage) -> None:
    cloud = stage.connect(scheduler_role="arn:aws:iam::999999999999:role/stopper")
    with pytest.raises(InvalidError, match="999999999999") as caught:
        stage.boot(cloud)
    assert f"a role of account {stage.server.account}" in caught.value.next_step
    assert stage.server.count("RunInstances") == 0
    stage.boot(cloud, deadline_s=0)  # it needs no schedule
    settle(cloud, cloud.stop("mine"))
    with pytest.raises(InvalidError):
        cloud.start("mine", deadline_s=3600, facts={})


@pytest.mark.parametrize(
    ("error", "kind", "advice"),
    [
        (ApiError("ThrottlingException", "Rate exceeded", status=429), ThrottledError, "Try again"),
        (
            ApiError("ServiceQuotaExceededException", "The number of schedules exceeds the limit.", status=402),
            QuotaError,
            "services/scheduler/quotas",
        ),
        (
            ApiError("AccessDeniedException", "User: u is not authorized to perform: scheduler:CreateSchedule", status=403),
            DeniedError,
            "docs/permissions.md",
        ),
        (
            ApiError("AccessDeniedException", "User: u is not authorized to perform: iam:PassRole on resource: r", status=403),
            DeniedError,
            "you to pass it",
        ),
    ],
)
def test_a_refusal_of_the_scheduler_says_what_to_do_and_that_it_can_be_left_out(
    stage: Stage, error: ApiError, kind: type[BakehouseError], advice: str
) -> None:
    cloud = connect(stage)
    stage.boot(cloud, deadline_s=0)
    settle(cloud, cloud.stop("mine"))
    stage.server.fault(CREATE, error=error, nth=None)
    with pytest.raises(kind) as caught:
        cloud.start("mine", deadline_s=3600, facts={})
    assert advice in caught.value.next_step
    assert "remove scheduler_role from your settings" in caught.value.next_step


def test_a_role_that_the_scheduler_cannot_assume_is_named_with_what_to_do_and_nothing_is_left(stage: Stage) -> None:
    stage.server.switches.unassumable_roles.add(role(stage))
    with pytest.raises(InvalidError, match="must allow AWS EventBridge Scheduler to assume the role") as caught:
        stage.boot(connect(stage))
    assert "A role that was just created works after a few minutes" in caught.value.next_step
    assert stage.left() == []


def test_a_machine_that_was_launched_without_the_setting_gets_its_schedule_at_a_start(stage: Stage) -> None:
    stage.boot()
    cloud = connect(stage)
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=3600, facts={}))
    assert len(schedules(stage)) == 1
    other = stage.connect()
    settle(other, other.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_a_start_without_the_setting_leaves_no_old_schedule_that_would_stop_the_machine(stage: Stage) -> None:
    stage.boot(connect(stage), deadline_s=3600)
    cloud = stage.connect()
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=7200, facts={}))
    stage.server.advance(3700)
    stage.server.advance(5)
    assert state(stage) == "running"


def test_without_the_setting_nothing_is_asked_and_its_client_is_not_made(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = stage.connect()
    assert not isinstance(cloud, EndsMachines)
    assert isinstance(cloud, EndsMachinesBySetting)
    assert cloud.ends_machines_by in SETTINGS
    made: list[str] = []
    make = session.Session.client
    monkeypatch.setattr(session.Session, "client", lambda own, service, *rest: made.append(service) or make(own, service, *rest))
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=60, facts={}))
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert set(made) <= {"ec2", "sts"}
    assert "schedule" not in {tag["Key"] for tag in stage.instance().get("Tags", ())}


def test_with_the_setting_the_cloud_ends_machines_and_a_launch_says_nothing_else(stage: Stage) -> None:
    assert isinstance(connect(stage), EndsMachines)


def test_a_machine_without_a_deadline_has_no_schedule(stage: Stage) -> None:
    stage.boot(connect(stage), deadline_s=0)
    assert asked(stage, CREATE) == []


def spec(cloud: Cloud) -> BootSpec:
    return BootSpec(
        name="mine",
        token=names.new_nonce(),
        source=cloud.resolve_base(Base("trixie", "amd64")).id,
        cpus=2,
        memory_mb=2048,
        disk_gb=8,
        labels={"role": "machine-in-progress", **names.client_labels()},
        deadline_s=3600,
        ports=(22,),
    )


def press(cloud: Cloud, event: str, action: str) -> None:
    """Press Ctrl-C right before or after a request to Scheduler."""

    def strike(**_: object) -> None:
        raise KeyboardInterrupt

    cloud._client._session._session.events.register_first(f"{event}.scheduler.{action}", strike)


@pytest.mark.parametrize("unseen", [0, 2])
@pytest.mark.parametrize("trouble", ["before", "after", "hang", "denied", "busy", "before-call", "after-call", "killed"])
def test_nothing_is_left_of_a_machine_whose_schedule_was_not_made(
    stage: Stage, trouble: str, unseen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    cloud = connect(stage)
    order = spec(cloud)
    stage.server.fault("RunInstances", error=lambda: setattr(stage.server.switches, "unseen_calls", unseen))
    denied = ApiError("AccessDeniedException", "User is not authorized to perform: iam:PassRole on resource", status=403)
    if trouble == "denied":
        stage.server.fault(CREATE, error=denied, nth=None)
    elif trouble == "busy":
        stage.server.switches.schedule_busy_s = BUSY_S
    elif trouble in ("before", "after"):
        stage.server.fault(CREATE, when=trouble, error=internal_error(), nth=None)
    elif trouble == "hang":
        stage.server.fault(CREATE, when="after", error="hang", nth=None)
    elif trouble.endswith("call"):
        press(cloud, trouble, "CreateSchedule")
    ledger = Ledger(stage.home / "ledger.sqlite3")
    with pytest.raises((BakehouseError, KeyboardInterrupt)) as caught, Undo() as undo:
        create_machine(cloud, ledger, undo, order)
        if trouble == "killed":
            undo.release()
        raise KeyboardInterrupt
    if trouble == "denied":
        assert isinstance(caught.value, DeniedError)
        assert "scheduler_role" in caught.value.next_step
    assert getattr(caught.value, "__notes__", []) == []
    if trouble == "killed":
        stage.collect()
    assert stage.left() == []


def test_a_machine_is_deleted_although_its_schedule_may_not_be(stage: Stage) -> None:
    cloud = connect(stage)
    stage.boot(cloud)
    stage.server.fault(DELETE, error=ApiError("AccessDeniedException", "not authorized", status=403), nth=None)
    with pytest.raises(DeniedError) as caught:
        settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert "The machine is deleted" in caught.value.next_step
    assert client(stage.server).describe_instances()["Reservations"][0]["Instances"][0]["State"]["Name"] == "terminated"
    assert stage.left("schedules") == []
    stage.server.advance(3700)
    assert schedules(stage) == []


@pytest.mark.parametrize("value", ["stopper", "arn:aws:iam::1:role/x", "arn:aws:iam::111122223333:user/x"])
def test_a_role_that_is_none_is_refused(value: str) -> None:
    from clouds.aws import SETTINGS

    setting: Setting = SETTINGS["scheduler_role"]
    assert setting.check
    setting.check(ROLE)
    with pytest.raises((ValueError, UsageError), match="ARN of a role"):
        setting.check(value)
