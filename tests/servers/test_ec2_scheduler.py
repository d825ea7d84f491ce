"""The EC2 server: EventBridge Scheduler, which stops and terminates its instances."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2_asking import NOW, STATE_S, boot, client, refusal, state

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

LATER_S = 3600


@pytest.fixture
def scheduler(ec2: Ec2) -> Any:
    return client(ec2, "scheduler")


def role(ec2: Ec2) -> str:
    return f"arn:aws:iam::{ec2.account}:role/stopper"


def at(seconds: float) -> str:
    return f"at({datetime.fromtimestamp(NOW + seconds, UTC):%Y-%m-%dT%H:%M:%S})"


def wanted(ec2: Ec2, instance: str, *, action: str = "stopInstances", key: str = "InstanceIds", **changes: Any) -> dict[str, Any]:
    target = {"Arn": f"arn:aws:scheduler:::aws-sdk:ec2:{action}", "RoleArn": role(ec2), "Input": json.dumps({key: [instance]})}
    plain = {"Name": "one", "ScheduleExpression": at(LATER_S), "FlexibleTimeWindow": {"Mode": "OFF"}}
    return {**plain, "ActionAfterCompletion": "DELETE", "Target": target, **changes}


@pytest.mark.parametrize(("action", "then"), [("stopInstances", "stopped"), ("terminateInstances", "terminated")])
def test_a_schedule_runs_once_and_is_deleted(ec2: Ec2, api: Any, scheduler: Any, action: str, then: str) -> None:
    one = boot(ec2, api)
    scheduler.create_schedule(**wanted(ec2, one, action=action))
    assert [line for line in ec2.inventory() if line.startswith("schedules")] == ["schedules us-east-1/one"]
    assert scheduler.get_schedule(Name="one")["State"] == "ENABLED"
    ec2.advance(LATER_S - STATE_S)
    ec2.advance(2 * STATE_S)
    assert state(api, one) == then
    assert refusal(scheduler.get_schedule, Name="one") == ("ResourceNotFoundException", "Schedule one does not exist.", 404)


def test_a_schedule_that_was_deleted_does_not_run(ec2: Ec2, api: Any, scheduler: Any) -> None:
    one = boot(ec2, api)
    scheduler.create_schedule(**wanted(ec2, one))
    scheduler.delete_schedule(Name="one")
    ec2.advance(2 * LATER_S)
    assert state(api, one) == "running"
    assert refusal(scheduler.delete_schedule, Name="one")[0] == "ResourceNotFoundException"


def test_the_same_token_is_the_same_schedule(ec2: Ec2, api: Any, scheduler: Any) -> None:
    order = wanted(ec2, boot(ec2, api))
    first = scheduler.create_schedule(**order, ClientToken="a")["ScheduleArn"]
    assert scheduler.create_schedule(**order, ClientToken="a")["ScheduleArn"] == first
    assert refusal(scheduler.create_schedule, **order, ClientToken="b") == (
        "ConflictException",
        "Schedule one already exists.",
        409,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"ScheduleExpression": "at(tomorrow)"},
        {"Target": {"Arn": "arn:aws:scheduler:::aws-sdk:ec2:stopInstances", "RoleArn": "stopper", "Input": "{}"}},
        {"FlexibleTimeWindow": {"Mode": "MAYBE"}},
        {"Name": "a/b"},
        {"Name": "x" * 65},
        {"ScheduleExpression": at(-60)},
        {"ScheduleExpression": at(LATER_S).replace("T", " ")},
    ],
)
def test_a_wrong_schedule_is_refused(ec2: Ec2, api: Any, scheduler: Any, changes: dict[str, Any]) -> None:
    assert refusal(scheduler.create_schedule, **wanted(ec2, boot(ec2, api), **changes))[0] == "ValidationException"


def test_an_update_replaces_the_whole_schedule(ec2: Ec2, api: Any, scheduler: Any) -> None:
    one = boot(ec2, api)
    order = wanted(ec2, one)
    assert refusal(scheduler.update_schedule, **order) == ("ResourceNotFoundException", "Schedule one does not exist.", 404)
    scheduler.create_schedule(**order, Description="first")
    scheduler.update_schedule(**{**order, "ScheduleExpression": at(2 * LATER_S)})
    assert "Description" not in scheduler.get_schedule(Name="one")
    ec2.advance(LATER_S + STATE_S)
    assert state(api, one) == "running"
    ec2.advance(LATER_S)
    ec2.advance(STATE_S)
    assert state(api, one) == "stopped"


def test_a_schedule_that_is_being_changed_refuses_the_next_change(ec2: Ec2, api: Any, scheduler: Any) -> None:
    ec2.switches.schedule_busy_s = 5.0
    order = wanted(ec2, boot(ec2, api))
    scheduler.create_schedule(**order)
    assert refusal(scheduler.delete_schedule, Name="one")[::2] == ("ConflictException", 409)
    assert refusal(scheduler.update_schedule, **order)[::2] == ("ConflictException", 409)
    ec2.advance(5)
    scheduler.delete_schedule(Name="one")
    assert refusal(scheduler.create_schedule, **order)[::2] == ("ConflictException", 409)
    ec2.advance(5)
    scheduler.create_schedule(**order)


@pytest.mark.parametrize("key", ["instanceIds", "InstanceId", "Instances"])
def test_a_target_whose_input_is_not_spelled_as_in_the_api_is_accepted_and_does_nothing(
    ec2: Ec2, api: Any, scheduler: Any, key: str
) -> None:
    one = boot(ec2, api)
    scheduler.create_schedule(**wanted(ec2, one, key=key))
    ec2.advance(2 * LATER_S)
    assert state(api, one) == "running"
    assert ec2.cloud.schedules == {}


def test_a_role_of_another_account_and_one_that_cannot_be_assumed_are_refused(ec2: Ec2, api: Any, scheduler: Any) -> None:
    order = wanted(ec2, boot(ec2, api))
    foreign = {**order["Target"], "RoleArn": "arn:aws:iam::999999999999:role/stopper"}
    code, message, status = refusal(scheduler.create_schedule, **{**order, "Target": foreign})
    assert (code, message, status) == ("AccessDeniedException", "Cross-account pass role is not allowed.", 403)
    ec2.switches.unassumable_roles.add(role(ec2))
    code, message, status = refusal(scheduler.create_schedule, **order)
    assert (code, status) == ("ValidationException", 400)
    assert message == "The execution role you provide must allow AWS EventBridge Scheduler to assume the role."


def test_a_schedule_of_another_group_is_not_found(ec2: Ec2, api: Any, scheduler: Any) -> None:
    order = wanted(ec2, boot(ec2, api))
    assert refusal(scheduler.create_schedule, **order, GroupName="mine")[0] == "ResourceNotFoundException"
