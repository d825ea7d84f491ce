"""Wrong requests to the EC2 server: each is refused as the real service refuses it, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import serve
from tests.servers.ec2_asking import IMAGE_S, KEY, NOW, STATE_S, ask, base, boot, client, image, launch, machine
from tests.servers.ec2_wrong import TABLE, Wrong

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

Things = dict[str, str]
STATUSES = {"DryRunOperation": 412, "AuthFailure": 403}
ZONE = "us-east-1a"


@pytest.fixture(scope="module")
def town() -> Iterator[tuple[Ec2, Things]]:
    """Give a server with one thing of each kind, and their ids."""
    with serve(state_s=STATE_S, image_s=IMAGE_S, clock=lambda: NOW) as ec2:
        api = client(ec2)
        things = _networks(api) | _instances(ec2, api)
        things |= _images(ec2, api, things) | _volumes(ec2, api, things)
        things["new"] = launch(api)
        things["pending"] = api.create_image(InstanceId=things["on"], Name="pending", NoReboot=True)["ImageId"]
        ec2.switches.addresses = 1
        yield ec2, things


def _networks(api: Any) -> Things:
    vpc = api.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    sub = api.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone=ZONE)["Subnet"]["SubnetId"]
    api.import_key_pair(KeyName="key", PublicKeyMaterial=KEY.encode())
    found = api.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["default"]}])["SecurityGroups"]
    return {
        "vpc": vpc,
        "sub": sub,
        "sg": api.create_security_group(GroupName="web", Description="any")["GroupId"],
        "other_sg": api.create_security_group(GroupName="other", Description="any", VpcId=vpc)["GroupId"],
        "default_sg": next(group["GroupId"] for group in found if group["VpcId"] != vpc),
    }


def _instances(ec2: Ec2, api: Any) -> Things:
    groups = {group["GroupName"]: group["GroupId"] for group in api.describe_security_groups()["SecurityGroups"]}
    subnets = api.describe_subnets(Filters=[{"Name": "cidr-block", "Values": ["10.0.1.0/24"]}])["Subnets"]
    things = {
        "on": boot(ec2, api, SecurityGroupIds=[groups["web"]]),
        "off": boot(ec2, api),
        "gone": boot(ec2, api),
        "kept": boot(ec2, api, DisableApiTermination=True, SubnetId=subnets[0]["SubnetId"]),
        "spot": boot(ec2, api, InstanceMarketOptions={"MarketType": "spot"}),
        "xen": boot(ec2, api, InstanceType="t2.small"),
    }
    api.run_instances(**machine(api, ClientToken="used", InstanceType="t3.large"))
    api.stop_instances(InstanceIds=[things["off"]])
    api.terminate_instances(InstanceIds=[things["gone"]])
    ec2.advance(STATE_S)
    address = api.allocate_address(Domain="vpc")["AllocationId"]
    api.associate_address(AllocationId=address, InstanceId=things["kept"])
    return {**things, "eip": address}


def _images(ec2: Ec2, api: Any, things: Things) -> Things:
    mine = image(ec2, api, things["on"])
    disks = api.describe_images(ImageIds=[mine])["Images"][0]["BlockDeviceMappings"]
    arm = base(api, "debian-13-arm64-*")
    return {"mine": mine, "mine_snap": disks[0]["Ebs"]["SnapshotId"], "ami": base(api), "arm": arm}


def _volumes(ec2: Ec2, api: Any, things: Things) -> Things:
    made = {name: api.create_volume(AvailabilityZone=ZONE, Size=1)["VolumeId"] for name in ("vol", "used_vol")}
    made["far_vol"] = api.create_volume(AvailabilityZone="us-east-1b", Size=1)["VolumeId"]
    ec2.advance(STATE_S)
    api.attach_volume(VolumeId=made["used_vol"], InstanceId=things["on"], Device="/dev/sdf")
    disks = api.describe_instances(InstanceIds=[things["on"]])["Reservations"][0]["Instances"][0]["BlockDeviceMappings"]
    root = next(disk["Ebs"]["VolumeId"] for disk in disks if disk["DeviceName"] == "/dev/xvda")
    return {**made, "root_vol": root}


def _filled(value: Any, things: Things) -> Any:
    return value.format(**things) if isinstance(value, str) and "{" in value else value


@pytest.mark.matrix(sample=40)
@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.title)
def test_a_wrong_request_is_refused_and_leaves_nothing(town: tuple[Ec2, Things], wrong: Wrong) -> None:
    ec2, things = town
    before = ec2.inventory()
    answer = ask(ec2, wrong.action, {name: _filled(value, things) for name, value in wrong.params.items()})
    assert answer.text("Code") == wrong.code, answer.body
    assert answer.status == STATUSES.get(wrong.code, 400)
    assert _filled(wrong.message, things) in answer.text("Message")
    assert ec2.inventory() == before
    assert not ec2.crashes, ec2.crashes.pop()


def test_each_row_has_a_title_of_its_own_and_a_source() -> None:
    assert len({wrong.title for wrong in TABLE}) == len(TABLE) >= 60
    assert all(wrong.source.startswith("https://") for wrong in TABLE)
