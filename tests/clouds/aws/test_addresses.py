"""Reserved addresses on AWS: `launch --static-ip` and `delete-address`."""

from __future__ import annotations

import pytest

import clouds
from clouds.aws import naming
from clouds.driver import Kind, Wishes
from clouds.errors import ConflictError, QuotaError
from clouds.lifecycle import settle
from tests.cli.verbs import run
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import ApiError
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
FRONT = Wishes(static_ip="front")


def addresses(stage: Stage) -> list[str]:
    return [line for line in stage.left() if line.startswith("addresses ")]


def test_an_address_in_use_is_not_released(stage: Stage) -> None:
    """EC2 would take it away from its machine in a default network (API_ReleaseAddress)."""
    cloud = stage.connect()
    found = stage.boot(cloud, wishes=FRONT)
    with pytest.raises(ConflictError, match=f"in use by {found['InstanceId']}"):
        cloud.delete(Kind.ADDRESS, "front")
    assert stage.instance()["PublicIpAddress"] == found["PublicIpAddress"]


def test_an_address_that_something_else_uses_is_in_use(stage: Stage) -> None:
    """That of a NAT gateway has a network interface, and no instance (sebdah/aws-ec2-assign-elastic-ip#18)."""
    api = client(stage.server)
    tags = naming.specifications(naming.to_tags({"role": "address"}, "front"), ("elastic-ip",))
    address = api.allocate_address(Domain="vpc", TagSpecifications=tags)["AllocationId"]
    subnet = api.describe_subnets()["Subnets"][0]["SubnetId"]
    gateway = api.create_network_interface(SubnetId=subnet)["NetworkInterface"]["NetworkInterfaceId"]
    api.associate_address(AllocationId=address, NetworkInterfaceId=gateway)
    with pytest.raises(ConflictError, match=f"in use by {gateway}"):
        stage.boot(wishes=FRONT)
    assert stage.server.count("RunInstances") == 0


def test_an_address_that_was_reserved_twice_since_an_answer_was_lost_is_kept_once(stage: Stage) -> None:
    """AllocateAddress has no ClientToken, and botocore repeats it."""
    stage.server.fault("AllocateAddress", when="after", error=ApiError("InternalError", "x", status=500))
    found = stage.boot(wishes=FRONT)
    assert stage.server.count("AllocateAddress") == 2
    assert addresses(stage) == [f"addresses us-east-1/{found['PublicIpAddress']}"]


def test_a_new_address_that_is_not_listed_yet_is_used(stage: Stage) -> None:
    stage.server.switches.writes_count = True
    stage.server.fault("AllocateAddress", error=lambda: setattr(stage.server.switches, "unseen_calls", 2))
    stage.server.fault("CreateSecurityGroup", error=lambda: setattr(stage.server.switches, "unseen_calls", 0))
    found = stage.boot(wishes=FRONT)
    assert addresses(stage) == [f"addresses us-east-1/{found['PublicIpAddress']}"]


def test_too_many_addresses_are_told_with_what_to_release(stage: Stage) -> None:
    stage.server.switches.addresses = 0
    with pytest.raises(QuotaError, match="maximum number of addresses") as caught:
        stage.boot(wishes=FRONT)
    assert "./inv delete-address NAME" in caught.value.next_step
    assert stage.left() == []


def test_a_verb_releases_an_address_that_nothing_uses(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
    cloud = stage.connect()
    stage.boot(cloud, wishes=FRONT)
    code, _, stderr = run("delete-address", address="front", yes=True)
    assert (code, "address 'front' is in use" in stderr) == (1, True)
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    code, _, stderr = run("delete-address", address="other", yes=True)
    assert (code, "address 'other' not found on aws" in stderr) == (1, True)
    assert "Reserved addresses: front" in stderr
    code, _, stderr = run("delete-address", address="front")
    assert code == 2
    assert "Release address 'front' (us-east-1)?" in stderr
    code, _, stderr = run("delete-address", address="front", yes=True)
    assert (code, "address 'front' (us-east-1) released" in stderr) == (0, True)
    assert addresses(stage) == []
