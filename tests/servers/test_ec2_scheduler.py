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

ROLE = "arn:aws:iam::111122223333:role/stopper"
LATER_S = 3600


@pytest.fixture
def scheduler(ec2: Ec2) -> Any:
    return client(ec2, "scheduler")


def wanted(instance: str, *, action: str = "stopInstances", **changes: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW + LATER_S, UTC)
    target = {"Arn": f"arn:aws:scheduler:::aws-sdk:ec2:{action}", "RoleArn": ROLE, "Input": json.dumps({"InstanceIds": [instance]})}
    plain = {"Name": "one", "ScheduleExpression": f"at({at:%Y-%m-%dT%H:%M:%S})", "FlexibleTimeWindow": {"Mode": "OFF"}}
    return {**plain, "ActionAfterCompletion": "DELETE", "Target": target, **changes}


@pytest.mark.parametrize(("action", "then"), [("stopInstances", "stopped"), ("terminateInstances", "terminated")])
def test_a_schedule_runs_once_and_is_deleted(ec2: Ec2, api: Any, scheduler: Any, action: str, then: str) -> None:
    one = boot(ec2, api)
    scheduler.create_schedule(**wanted(one, action=action))
    assert [line for line in ec2.inventory() if line.startswith("schedules")] == ["schedules us-east-1/one"]
    assert scheduler.get_schedule(Name="one")["State"] == "ENABLED"
    ec2.advance(LATER_S - STATE_S)
    ec2.advance(2 * STATE_S)
    assert state(api, one) == then
    assert refusal(scheduler.get_schedule, Name="one") == ("ResourceNotFoundException", "Schedule one does not exist.", 404)


def test_a_schedule_that_was_deleted_does_not_run(ec2: Ec2, api: Any, scheduler: Any) -> None:
    one = boot(ec2, api)
    scheduler.create_schedule(**wanted(one))
    scheduler.delete_schedule(Name="one")
    ec2.advance(2 * LATER_S)
    assert state(api, one) == "running"
    assert refusal(scheduler.delete_schedule, Name="one")[0] == "ResourceNotFoundException"


def test_the_same_token_is_the_same_schedule(ec2: Ec2, api: Any, scheduler: Any) -> None:
    order = wanted(boot(ec2, api))
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
    ],
)
def test_a_wrong_schedule_is_refused(ec2: Ec2, api: Any, scheduler: Any, changes: dict[str, Any]) -> None:
    assert refusal(scheduler.create_schedule, **wanted(boot(ec2, api), **changes))[0] == "ValidationException"
