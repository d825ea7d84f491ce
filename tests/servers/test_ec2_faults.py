"""The EC2 server: the faults that a test may order, and how botocore takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import (
    ApiError,
    LateError,
    Page,
    insufficient_capacity,
    internal_error,
    plain_capacity_error,
    spot_limit,
    throttled,
    unauthorized,
    unavailable,
    vcpu_limit,
)
from tests.servers.ec2_asking import ask, client, launch, machine, refusal, refused

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

RETRIED = [throttled(), unavailable(), internal_error(), plain_capacity_error()]
NOT_RETRIED = [vcpu_limit(32), spot_limit(), unauthorized("RunInstances"), ApiError("InstanceLimitExceeded", "Too many")]


def test_a_fault_before_the_effect_leaves_nothing(ec2: Ec2, api: Any) -> None:
    ec2.fault("RunInstances", error=internal_error())
    assert refusal(api.run_instances, **machine(api))[::2] == ("InternalError", 500)
    assert ec2.inventory() == []


def test_a_fault_after_the_effect_leaves_the_effect(ec2: Ec2, api: Any) -> None:
    ec2.fault("RunInstances", when="after", error=internal_error())
    assert refused(api.run_instances, **machine(api)) == "InternalError"
    assert "instances us-east-1a/one pending" in ec2.inventory()


def test_a_retry_with_the_same_token_finds_what_a_lost_answer_has_made(ec2: Ec2, api: Any) -> None:
    from botocore.exceptions import ConnectionClosedError

    ec2.fault("RunInstances", when="after", error="hang")
    with pytest.raises(ConnectionClosedError):
        api.run_instances(**machine(api, ClientToken="bake-1"))
    launch(api, ClientToken="bake-1")
    assert [line for line in ec2.inventory() if line.startswith("instances")] == ["instances us-east-1a/one pending"]


def test_botocore_sends_the_token_that_it_made_up_again(ec2: Ec2, api: Any) -> None:
    wanted = machine(api)
    ec2.fault("RunInstances", when="after", error=internal_error())
    client(ec2, attempts=2).run_instances(**wanted)
    assert len([line for line in ec2.inventory() if line.startswith("instances")]) == 1


@pytest.mark.parametrize("error", RETRIED, ids=lambda error: error.code)
def test_botocore_retries_these(ec2: Ec2, api: Any, error: ApiError) -> None:
    ec2.fault("DescribeInstances", error=error)
    client(ec2, attempts=2).describe_instances()
    assert [(call.status, call.code) for call in ec2.calls] == [(error.status, error.code), (200, "")]


@pytest.mark.parametrize("error", NOT_RETRIED, ids=lambda error: error.code)
def test_botocore_does_not_retry_these(ec2: Ec2, api: Any, error: ApiError) -> None:
    ec2.fault("DescribeInstances", error=error)
    assert refused(client(ec2, attempts=3).describe_instances) == error.code
    assert ec2.count("DescribeInstances") == 1


def test_a_fault_strikes_once_the_nth_time_or_always(ec2: Ec2, api: Any) -> None:
    ec2.fault("DescribeVpcs", error=throttled())
    assert [ask(ec2, "DescribeVpcs").status for _ in range(2)] == [503, 200]
    ec2.fault("DescribeVpcs", error=throttled(), nth=2)
    assert [ask(ec2, "DescribeVpcs").status for _ in range(3)] == [200, 503, 200]
    ec2.fault("DescribeVpcs", error=throttled(), nth=None)
    assert [ask(ec2, "DescribeVpcs").status for _ in range(3)] == [503] * 3
    ec2.clear_faults()
    assert ask(ec2, "DescribeVpcs").status == 200


@pytest.mark.parametrize(("when", "left"), [("before", False), ("after", True)])
def test_an_answer_may_be_a_page(ec2: Ec2, api: Any, when: str, left: bool) -> None:
    wanted = machine(api)
    ec2.fault("RunInstances", when=when, error=Page("<html>Log in</html>"))
    from botocore.exceptions import BotoCoreError

    with pytest.raises((BotoCoreError, KeyError)):
        api.run_instances(**wanted)["Instances"]
    assert bool(ec2.inventory()) is left


def test_a_function_may_strike(ec2: Ec2, api: Any) -> None:
    struck: list[str] = []
    ec2.fault("RunInstances", when="after", error=lambda: struck.append("yes"))
    launch(api)
    assert struck == ["yes"]


def test_other_services_may_fail_too(ec2: Ec2, api: Any) -> None:
    ec2.fault("ssm:GetParameter", error=ApiError("ThrottlingException", "Rate exceeded"))
    ec2.fault("sts:GetCallerIdentity", error=ApiError("ExpiredToken", "The token is expired", status=403))
    assert refused(client(ec2, "ssm").get_parameter, Name="/any") == "ThrottlingException"
    assert refusal(client(ec2, "sts").get_caller_identity)[::2] == ("ExpiredToken", 403)


def test_a_late_error_needs_something_that_is_made(ec2: Ec2, api: Any) -> None:
    ec2.fault("DescribeVpcs", error=LateError("Client.Any", "any"))
    assert refused(api.describe_vpcs) == "InternalError"
    assert "makes nothing that can fail late" in ec2.crashes.pop()


def test_capacity_errors_name_zones_that_have_some() -> None:
    error = insufficient_capacity("t3.small", "us-east-1a", "us-east-1b", "us-east-1c")
    assert error.message.endswith("or choosing us-east-1b, us-east-1c.")


def test_each_call_is_noted(ec2: Ec2, api: Any) -> None:
    api.describe_vpcs()
    refused(api.describe_instances, InstanceIds=["i-00000000000000000"])
    client(ec2, "sts", region="eu-west-1").get_caller_identity()
    assert [(call.service, call.action, call.region, call.status, call.code) for call in ec2.calls] == [
        ("ec2", "DescribeVpcs", "us-east-1", 200, ""),
        ("ec2", "DescribeInstances", "us-east-1", 400, "InvalidInstanceID.NotFound"),
        ("sts", "GetCallerIdentity", "eu-west-1", 200, ""),
    ]
    assert ec2.calls[1].params["InstanceId.1"] == "i-00000000000000000"


@pytest.mark.parametrize("action", ["CreateFleet", "GetSpotPlacementScores"])
def test_an_action_that_is_not_served_is_refused_and_reported(ec2: Ec2, api: Any, action: str) -> None:
    needed: dict[str, dict[str, Any]] = {
        "CreateFleet": {
            "TargetCapacitySpecification.TotalTargetCapacity": 1,
            "LaunchTemplateConfigs.1.LaunchTemplateSpecification.Version": "1",
        },
        "GetSpotPlacementScores": {"TargetCapacity": 1},
    }
    answer = ask(ec2, action, needed[action])
    assert (answer.status, answer.text("Code")) == (400, "InvalidAction")
    assert action in ec2.crashes.pop()


def test_a_fault_may_be_that_of_one_region(ec2: Ec2, api: Any) -> None:
    ec2.fault("DescribeInstances", error=unavailable(), nth=None, region="eu-west-1")
    assert api.describe_instances()["Reservations"] == []
    assert refused(client(ec2, region="eu-west-1").describe_instances) == "Unavailable"
