"""The EC2 server: accounts, credentials, the Systems Manager, and what importing costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import serve
from tests.servers.ec2_asking import NOW, ask, base, client, launch, refusal, refused

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

ROOT = Path(__file__).parents[2]


def test_collecting_the_tests_imports_neither_moto_nor_boto3() -> None:
    modules = [f"tests.servers.{path.stem}" for path in Path(__file__).parent.glob("test_ec2_*.py")]
    lines = ["import importlib, sys", f"for name in {modules}: importlib.import_module(name)"]
    lines.append("print(sorted({'moto', 'boto3', 'botocore'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_two_servers_are_two_accounts(ec2: Ec2, api: Any) -> None:
    with serve(clock=lambda: NOW) as other:
        launch(api)
        assert other.account != ec2.account
        assert client(other).describe_instances()["Reservations"] == []
        assert other.inventory() == []


def test_the_account_is_known_by_its_number(ec2: Ec2) -> None:
    found = client(ec2, "sts").get_caller_identity()
    assert (found["Account"], found["Account"] in found["Arn"]) == (ec2.account, True)


@pytest.mark.parametrize(("key", "code", "status"), [("AKIAUNKNOWN", "AuthFailure", 401), ("", "MissingAuthenticationToken", 403)])
def test_requests_need_a_known_key(ec2: Ec2, key: str, code: str, status: int) -> None:
    header = f"AWS4-HMAC-SHA256 Credential={key}/20261014/us-east-1/ec2/aws4_request, Signature=0" if key else ""
    answer = ask(ec2, "DescribeVpcs", authorization=header)
    assert (answer.status, answer.text("Code")) == (status, code)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("/aws/service/debian/release/13/latest/amd64", "debian-13-amd64-2026*"),
        ("/aws/service/debian/release/12/latest/arm64", "debian-12-arm64-2026*"),
    ],
)
def test_public_parameters_name_the_newest_image(ec2: Ec2, api: Any, name: str, image: str) -> None:
    assert client(ec2, "ssm").get_parameter(Name=name)["Parameter"]["Value"] == base(api, image)


@pytest.mark.parametrize(
    "name",
    [
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id",
        "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
    ],
)
def test_parameters_of_other_publishers(ec2: Ec2, api: Any, name: str) -> None:
    image_id = client(ec2, "ssm").get_parameter(Name=name)["Parameter"]["Value"]
    assert api.describe_images(ImageIds=[image_id])["Images"][0]["Public"]


def test_parameters_differ_by_region_and_absent_ones_are_reported(ec2: Ec2) -> None:
    name = "/aws/service/debian/release/13/latest/amd64"
    values = {
        client(ec2, "ssm", region=region).get_parameter(Name=name)["Parameter"]["Value"] for region in ("us-east-1", "eu-west-1")
    }
    assert len(values) == 2
    ssm = client(ec2, "ssm")
    assert ssm.get_parameters(Names=[name, "/none"])["InvalidParameters"] == ["/none"]
    assert refused(ssm.get_parameter, Name="/none") == "ParameterNotFound"


def test_regions_are_apart(ec2: Ec2, api: Any) -> None:
    launch(api)
    assert client(ec2, region="eu-west-1").describe_instances()["Reservations"] == []


def test_the_error_has_the_form_of_the_real_service(ec2: Ec2, api: Any) -> None:
    answer = ask(ec2, "DescribeInstances", {"InstanceId.1": "i-00000000000000000"})
    assert answer.body.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>')
    assert refusal(api.describe_instances, InstanceIds=["i-00000000000000000"]) == (
        "InvalidInstanceID.NotFound",
        "The instance ID 'i-00000000000000000' does not exist",
        400,
    )


def test_a_crash_is_reported_and_answered_as_an_internal_error(ec2: Ec2, api: Any) -> None:
    def crash() -> None:
        raise RuntimeError("here")

    ec2.fault("DescribeVpcs", error=crash)
    assert refusal(api.describe_vpcs)[::2] == ("InternalError", 500)
    assert "RuntimeError: here" in ec2.crashes.pop()
