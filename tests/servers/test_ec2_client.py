"""The EC2 server, asked by clients that are not ours, and by several at a time; its clock runs here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import serve
from tests.servers.ec2_asking import base, client, machine

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

AWS = Path(sys.executable).with_name("aws")
WAITS: dict[str, Any] = {"WaiterConfig": {"Delay": 0.02, "MaxAttempts": 500}}


def test_the_aws_cli_starts_an_instance(ec2: Ec2, api: Any, tmp_path: Path) -> None:
    from tests.servers.ec2.serving import ACCESS_KEY, SECRET_KEY

    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_DEFAULT_REGION": "us-east-1"}
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "AWS_ENDPOINT_URL": ec2.url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    arguments = ["ec2", "run-instances", "--image-id", base(api), "--instance-type", "t3.small", "--output", "json"]
    tags = ["--tag-specifications", "ResourceType=instance,Tags=[{Key=Name,Value=one}]", "--client-token", "cli-1"]
    command = [sys.executable, str(AWS), *arguments, *tags]
    done = subprocess.run(command, env=environment | keys, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["Instances"][0]["State"]["Name"] == "pending"
    assert "instances us-east-1a/one pending" in ec2.inventory()


def test_time_passes_by_itself() -> None:
    with serve(state_s=0.05, image_s=0.05) as ec2:
        api = client(ec2)
        one = api.run_instances(**machine(api))["Instances"][0]["InstanceId"]
        api.get_waiter("instance_running").wait(InstanceIds=[one], **WAITS)
        mine = api.create_image(InstanceId=one, Name="mine")["ImageId"]
        api.get_waiter("image_available").wait(ImageIds=[mine], **WAITS)
        api.terminate_instances(InstanceIds=[one])
        api.get_waiter("instance_terminated").wait(InstanceIds=[one], **WAITS)
        assert not ec2.crashes


def test_many_ask_at_a_time(ec2: Ec2, api: Any) -> None:
    wanted = machine(api)
    with ThreadPoolExecutor(4) as pool:
        tokens = [f"token-{number % 6}" for number in range(24)]
        made = list(pool.map(lambda token: api.run_instances(**wanted, ClientToken=token)["Instances"][0]["InstanceId"], tokens))
    assert len(set(made)) == 6
    assert len([line for line in ec2.inventory() if line.startswith("instances")]) == 6


def test_what_else_a_driver_asks(ec2: Ec2, api: Any) -> None:
    kind = api.describe_instance_types(InstanceTypes=["t3.small"])["InstanceTypes"][0]
    assert (kind["Hypervisor"], kind["MemoryInfo"]["SizeInMiB"], kind["ProcessorInfo"]["SupportedArchitectures"]) == (
        "nitro",
        2048,
        ["x86_64"],
    )
    offers = api.describe_instance_type_offerings(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": ["t3.small"]}]
    )["InstanceTypeOfferings"]
    assert "us-east-1e" not in {offer["Location"] for offer in offers}
    assert len(api.describe_availability_zones()["AvailabilityZones"]) == 6
    assert "eu-west-1" in {region["RegionName"] for region in api.describe_regions()["Regions"]}
    assert len(api.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]) == 1
    assert len(api.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]) == 6
    assert api.describe_network_interfaces()["NetworkInterfaces"] == []
    assert api.get_ebs_encryption_by_default()["EbsEncryptionByDefault"] is False
    assert not ec2.crashes
