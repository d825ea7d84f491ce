"""What AWS refuses, as our own errors with a next step: by code, and as botocore raises it."""

from __future__ import annotations

import getpass
from typing import Any

import pytest
from botocore.credentials import AssumeRoleProvider  # type: ignore[import-untyped]
from botocore.exceptions import ClientError  # type: ignore[import-untyped]

from clouds.aws import failures
from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    DeniedError,
    FailedError,
    ForeignError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
    UsageError,
)
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import ApiError, Page, internal_error, throttled, unavailable

SCP = (
    "You are not authorized to perform this operation. User: arn:aws:iam::1:user/me is not authorized to perform: "
    "ec2:RunInstances on resource: arn:aws:ec2:eu-west-3:1:instance/* with an explicit deny in a service control policy. "
    "Encoded authorization failure message: abcDEF_-123"
)
"""docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html."""
PROFILE = "Value (x) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
REFUSALS: list[tuple[str, int, str, type[CloudError], str]] = [
    ("AuthFailure", 401, "AWS was not able to validate the provided access credentials", DeniedError, "region is enabled"),
    ("ExpiredToken", 403, "The security token included in the request is expired", DeniedError, "aws sso login"),
    (
        "InvalidClientTokenId",
        403,
        "The security token included in the request is invalid.",
        DeniedError,
        "aws sts get-caller-identity",
    ),
    ("RequestExpired", 400, "Request has expired.", DeniedError, "clock"),
    ("SignatureDoesNotMatch", 403, "The request signature we calculated does not match", DeniedError, "clock"),
    ("OptInRequired", 401, "You are not subscribed to this service", DeniedError, "enable the region"),
    ("PendingVerification", 400, "Your request for accessing resources in this region is being validated", DeniedError, "hours"),
    ("UnauthorizedOperation", 403, "You are not authorized to perform this operation.", DeniedError, "docs/permissions.md"),
    ("UnauthorizedOperation", 403, SCP, DeniedError, "policy of your organization"),
    (
        "VcpuLimitExceeded",
        400,
        "You have requested more vCPU capacity than your current vCPU limit of 8 allows",
        QuotaError,
        "quotas",
    ),
    ("MaxSpotInstanceCountExceeded", 400, "Max spot instance count exceeded", QuotaError, "quotas"),
    ("AddressLimitExceeded", 400, "The maximum number of addresses has been reached.", QuotaError, "quotas"),
    ("InsufficientInstanceCapacity", 500, "We currently do not have sufficient t3.small capacity", CapacityError, "--zone"),
    ("SpotMaxPriceTooLow", 400, "Your Spot request price of 0.001 is lower than the minimum", failures.PriceError, "--max-price"),
    ("Unsupported", 400, "Your requested instance type (t3.small) is not supported", CapacityError, "--type"),
    ("RequestLimitExceeded", 503, "Request limit exceeded.", ThrottledError, "Try again"),
    ("InternalError", 500, "An internal error has occurred", ThrottledError, "Try again"),
    ("Unavailable", 503, "The service is unavailable. Please try again shortly.", ThrottledError, "Try again"),
    ("InvalidInstanceID.NotFound", 400, "The instance ID 'i-1' does not exist", NotFoundError, "./inv machines"),
    ("InvalidAMIID.NotFound", 400, "The image id '[ami-1]' does not exist", NotFoundError, "--refresh"),
    ("InvalidSubnetID.NotFound", 400, "The subnet ID 'subnet-1' does not exist", NotFoundError, "describe-subnets"),
    ("InvalidAMIName.Duplicate", 400, "AMI name a is already in use by AMI ami-1", ConflictError, ""),
    ("IdempotentParameterMismatch", 400, "Arguments on this idempotent request are inconsistent", ConflictError, ""),
    ("IncorrectInstanceState", 400, "The instance 'i-1' is not in a state from which it can be started.", InvalidError, ""),
    ("DependencyViolation", 400, "resource sg-1 has a dependent object", failures.NotReadyError, ""),
    ("InvalidGroup.InUse", 400, "There are active instances using security group", failures.NotReadyError, ""),
    ("InsufficientAddressCapacity", 503, "Not enough available addresses to satisfy your request", CapacityError, "--region"),
    (
        "InsufficientVolumeCapacity",
        503,
        "Not enough capacity to fulfill your EBS volume provision request",
        CapacityError,
        "--zone",
    ),
    ("VPCIdNotSpecified", 400, "No default VPC for this user", InvalidError, "create-default-vpc"),
    ("InvalidParameterValue", 400, "Invalid availability zone: [us-east-1z]", InvalidError, "describe-availability-zones"),
    ("InvalidParameterValue", 400, "The architecture 'arm64' of the specified instance type", InvalidError, "for amd64"),
    ("InvalidParameterValue", 400, PROFILE, InvalidError, "instance_profile"),
    ("OperationNotPermitted", 400, "may not be terminated. Modify its 'disableApiTermination'", InvalidError, "protects"),
    ("SomethingNew", 400, "What nobody has met yet", InvalidError, ""),
]


@pytest.mark.parametrize(("code", "status", "message", "kind", "advice"), REFUSALS, ids=lambda value: str(value)[:40])
def test_each_code_has_its_error_and_its_next_step(
    code: str, status: int, message: str, kind: type[CloudError], advice: str
) -> None:
    error = failures.of_code("machine mine", code, message, status)
    assert type(error) is kind or (kind is InvalidError and isinstance(error, kind))
    assert error.message.startswith("machine mine: ")
    assert message.partition(". Encoded")[0].partition(" Encoded")[0] in error.message
    assert advice in error.next_step


def test_an_encoded_message_is_no_part_of_the_error_but_a_command_that_reads_it() -> None:
    error = failures.of_code("machine mine", "UnauthorizedOperation", SCP, 403)
    assert "abcDEF" not in error.message
    assert error.__notes__ == ["for the details: aws sts decode-authorization-message --encoded-message abcDEF_-123"]


def test_zones_are_read_from_the_message() -> None:
    message = "... by not specifying an Availability Zone in your request or choosing us-east-1b, us-west-2-lax-1a."
    error = failures.of_code("machine mine", "InsufficientInstanceCapacity", message, 500)
    assert isinstance(error, CapacityError)
    assert error.zones == ("us-east-1b", "us-west-2-lax-1a")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("Server.InsufficientInstanceCapacity", CapacityError),
        ("Client.VolumeLimitExceeded", QuotaError),
        ("Server.InternalError", FailedError),
        ("Client.InvalidSnapshot.NotFound", NotFoundError),
    ],
)
def test_what_fails_later_has_the_same_errors(code: str, kind: type[CloudError]) -> None:
    error = failures.of_state("machine mine", {"Code": code, "Message": f"{code}: it went wrong"})
    assert type(error) is kind
    assert error.message == f"machine mine: it went wrong ({code.partition('.')[2]})"


def test_a_disk_whose_key_may_not_be_used_is_told() -> None:
    """repost.aws/knowledge-center/kms-iam-ec2-permission."""
    reason = {"Code": "Client.InternalError", "Message": "Client.InternalError: Client error on launch"}
    error = failures.of_state("machine mine", reason)
    assert type(error) is FailedError
    assert "kms:CreateGrant" in error.next_step


@pytest.mark.server
@pytest.mark.parametrize("error", [throttled(), unavailable(), internal_error()], ids=lambda error: error.code)
def test_what_passes_is_asked_again(stage: Stage, error: ApiError) -> None:
    stage.server.fault("DescribeInstances", error=error)
    assert stage.connect()._machines.find("mine") is None
    assert stage.server.count("DescribeInstances") == 2


@pytest.mark.server
@pytest.mark.parametrize("page", [Page(), Page("<html>Log in</html>")], ids=["broken", "whole"])
def test_the_page_of_a_portal_is_no_empty_list(stage: Stage, page: Page) -> None:
    stage.server.fault("DescribeInstances", error=page, nth=None)
    with pytest.raises(ForeignError, match="not from AWS"):
        stage.connect().owned({})


@pytest.mark.server
def test_a_refusal_names_its_request_and_tells_what_to_do(stage: Stage) -> None:
    stage.server.fault("RunInstances", error=ApiError("UnauthorizedOperation", SCP, status=403))
    with pytest.raises(DeniedError, match="machine mine: You are not authorized") as caught:
        stage.boot()
    assert "policy of your organization" in caught.value.next_step
    assert stage.left() == []


@pytest.mark.server
def test_without_a_default_network_the_next_step_says_how_to_get_one(stage: Stage) -> None:
    from tests.servers.ec2_asking import client

    api = client(stage.server)
    for subnet in api.describe_subnets()["Subnets"]:
        api.delete_subnet(SubnetId=subnet["SubnetId"])
    with pytest.raises(InvalidError, match="no default network") as caught:
        stage.boot()
    assert "aws ec2 create-default-vpc" in caught.value.next_step
    with pytest.raises(NotFoundError) as missing:
        stage.boot(stage.connect(subnet="subnet-00000000000000000"))
    assert "describe-subnets" in missing.value.next_step


def client_of(tmp_path: Any, **arguments: str) -> Any:
    from clouds.aws.client import Client

    profile, region = arguments.pop("profile", ""), arguments.pop("region", "us-east-1")
    return Client(region, profile, tmp_path / "aws", arguments=arguments)


KEYS = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "secret"}


def test_without_credentials_the_next_step_is_to_log_in(tmp_path: Any) -> None:
    with pytest.raises(DeniedError, match="no credentials") as caught:
        client_of(tmp_path).ask("machines", "describe_instances")
    assert "aws sso login" in caught.value.next_step
    with pytest.raises(DeniedError, match="no credentials"):
        assert client_of(tmp_path).account


def test_a_credential_process_that_is_not_installed_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config").write_text("[profile work]\ncredential_process = /nonexistent/helper --json\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for ask in (lambda client: client.ask("machines", "describe_instances"), lambda client: client.account):
        with pytest.raises(DeniedError, match=r"^no credentials for AWS .*/nonexistent/helper"):
            ask(client_of(tmp_path, profile="work"))


def test_a_code_that_cannot_be_asked_for_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile with `mfa_serial` makes botocore ask at the terminal; without one, that fails."""
    config = "[profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n"
    config += "[profile work]\nsource_profile = base\nrole_arn = arn:aws:iam::111122223333:role/a\n"
    (tmp_path / "config").write_text(f"{config}mfa_serial = arn:aws:iam::111122223333:mfa/me\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))

    def ask_nobody(*_: object) -> str:
        raise EOFError

    init = AssumeRoleProvider.__init__  # whose default is getpass itself
    defaults = tuple(ask_nobody if value is getpass.getpass else value for value in init.__defaults__)
    monkeypatch.setattr(init, "__defaults__", defaults)
    with pytest.raises(DeniedError, match=r"no credentials for AWS \(EOFError\)"):
        client_of(tmp_path, profile="work").ask("machines", "describe_instances")


def test_an_unknown_profile_is_told(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="nosuch") as caught:
        client_of(tmp_path, profile="nosuch").ask("machines", "describe_instances")
    assert "aws configure list-profiles" in caught.value.next_step


def test_without_a_region_the_next_step_says_where_to_set_one(tmp_path: Any) -> None:
    with pytest.raises(UsageError, match="no region is set") as caught:
        client_of(tmp_path, region="").ask("machines", "describe_instances")
    assert "--region" in caught.value.next_step
    assert "AWS_REGION" in caught.value.next_step
    assert "--region all needs one" in caught.value.next_step


def test_a_server_that_does_not_answer_is_told_in_time(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from clouds.aws import session

    monkeypatch.setattr(session, "ATTEMPTS", 1)
    client = client_of(tmp_path, endpoint_url="http://127.0.0.1:9", **KEYS)
    with pytest.raises(ThrottledError, match=r"no answer from AWS \(EndpointConnectionError: http://127\.0\.0\.1:9/?\)") as caught:
        client.ask("machines", "describe_instances")
    assert "AWS_ENDPOINT_URL" in caught.value.next_step


UNKNOWN = [("eu-west-11", "eu-west-1"), ("us-esat-1", "us-east-1"), ("cn-nort-1", "cn-north-1")]


@pytest.mark.parametrize(("region", "nearest"), UNKNOWN)
def test_region_that_does_not_exist_is_named_with_the_nearest_one_if_nothing_answers(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, region: str, nearest: str
) -> None:
    from clouds.aws import session

    monkeypatch.setattr(session, "ATTEMPTS", 1)
    client = client_of(tmp_path, region=region, endpoint_url="http://127.0.0.1:9", **KEYS)
    for ask in (lambda: client.ask("machines", "describe_instances"), lambda: client.account):
        with pytest.raises(ThrottledError, match=f"^unknown region '{region}': .*: no answer from AWS") as caught:
            ask()
        meant, other_causes = caught.value.next_step.splitlines()
        assert meant.startswith("Did you mean ")
        assert nearest in meant
        assert "AWS_ENDPOINT_URL" in other_causes


def test_region_that_does_not_exist_is_named_before_the_log_in(tmp_path: Any) -> None:
    with pytest.raises(DeniedError, match=r"^unknown region 'eu-west-11': aws: no credentials found$") as caught:
        _ = client_of(tmp_path, region="eu-west-11").account
    assert [line[:8] for line in caught.value.next_step.splitlines()] == ["Did you ", "Log in ("]


@pytest.mark.parametrize(
    ("code", "is_named"), [("AuthFailure", True), ("UnauthorizedOperation", False), ("RequestLimitExceeded", False)]
)
def test_region_is_suspected_only_where_it_may_be_the_cause(code: str, is_named: bool) -> None:
    error = failures.of_code("machines", code, "message", 400)
    error.__cause__ = ClientError({"Error": {"Code": code}}, "DescribeInstances")
    failures.suspect_region(error, "eu-new-1", ["eu-west-1"])
    assert ("unknown region" in error.message) == is_named
    known = failures.of_code("machines", code, "message", 400)
    failures.suspect_region(known, "eu-west-1", ["eu-west-1"])
    assert "unknown region" not in known.message


def test_a_proxy_that_is_out_of_reach_is_told(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from clouds.aws import session

    monkeypatch.setattr(session, "ATTEMPTS", 1)
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(ThrottledError) as caught:
        client_of(tmp_path, **KEYS).ask("machines", "describe_instances")
    assert "HTTPS_PROXY" in caught.value.next_step


@pytest.mark.server
def test_the_account_of_a_key_is_asked_for_once(stage: Stage) -> None:
    assert stage.connect().account == f"{stage.server.account}.us-east-1"
    assert stage.connect().account == f"{stage.server.account}.us-east-1"
    assert stage.server.count("GetCallerIdentity") == 1
