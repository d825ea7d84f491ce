"""The EC2 server: RunInstances."""

from __future__ import annotations

import base64
import os
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import serve
from tests.servers.ec2_asking import NOW, STATE_S, ask, boot, client, launch, machine, refusal, refused, shown

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def _instances(ec2: Ec2) -> list[str]:
    return [line for line in ec2.inventory() if line.startswith("instances")]


def test_the_same_token_makes_one_instance(ec2: Ec2, api: Any) -> None:
    wanted = machine(api, ClientToken="bake-1")
    first, second = (api.run_instances(**wanted)["Instances"][0]["InstanceId"] for _ in range(2))
    assert first == second
    assert len(_instances(ec2)) == 1
    assert shown(api, first)["ClientToken"] == "bake-1"


def test_the_same_token_with_other_arguments_is_refused(ec2: Ec2, api: Any) -> None:
    api.run_instances(**machine(api, ClientToken="bake-1"))
    assert (
        refused(api.run_instances, **machine(api, ClientToken="bake-1", InstanceType="t3.large")) == "IdempotentParameterMismatch"
    )
    assert len(_instances(ec2)) == 1


def test_without_a_token_boto3_makes_up_another_one_each_time(ec2: Ec2, api: Any) -> None:
    assert launch(api) != launch(api)
    assert all(uuid.UUID(call.params["ClientToken"]) for call in ec2.calls if call.action == "RunInstances")


def test_a_token_counts_per_zone_when_the_request_names_one(ec2: Ec2, api: Any) -> None:
    for zone in ("us-east-1a", "us-east-1b"):
        api.run_instances(**machine(api, ClientToken="bake-1", Placement={"AvailabilityZone": zone}))
    assert [line.split("/")[0] for line in _instances(ec2)] == ["instances us-east-1a", "instances us-east-1b"]


def test_the_token_of_a_terminated_instance_is_used_up(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, ClientToken="bake-1")
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert refused(api.run_instances, **machine(api, ClientToken="bake-1")) == "IdempotentInstanceTerminated"


def test_a_dry_run_uses_no_token_up(ec2: Ec2, api: Any) -> None:
    code, _, status = refusal(api.run_instances, **machine(api, ClientToken="bake-1", DryRun=True))
    assert (code, status, _instances(ec2)) == ("DryRunOperation", 412, [])
    launch(api, ClientToken="bake-1")


@pytest.mark.parametrize("action", ["create_volume", "copy_image"])
def test_other_requests_honour_their_token(ec2: Ec2, api: Any, action: str) -> None:
    source = machine(api)["ImageId"]
    wanted: dict[str, Any] = {
        "create_volume": {"AvailabilityZone": "us-east-1a", "Size": 1},
        "copy_image": {"SourceImageId": source, "SourceRegion": "us-east-1", "Name": "copy"},
    }[action]
    for _ in range(2):
        getattr(api, action)(**wanted, ClientToken="token-1")
    assert len([line for line in ec2.inventory() if line.startswith(("volumes", "images"))]) == 1


def test_up_to_max_count_instances_start(ec2: Ec2, api: Any) -> None:
    assert len(api.run_instances(**machine(api, MinCount=1, MaxCount=3))["Instances"]) == 3


def test_as_many_as_fit_start(ec2: Ec2, api: Any) -> None:
    ec2.switches.capacity["t3.small", "us-east-1a"] = 2
    wanted = machine(api, MinCount=1, MaxCount=3, Placement={"AvailabilityZone": "us-east-1a"})
    assert len(api.run_instances(**wanted)["Instances"]) == 2
    code, message, status = refusal(api.run_instances, **wanted)
    assert (code, status) == ("InsufficientInstanceCapacity", 500)
    assert "or choosing us-east-1b, us-east-1c" in message


def test_without_a_zone_the_service_takes_one_with_capacity(ec2: Ec2, api: Any) -> None:
    ec2.switches.capacity["t3.small", "us-east-1a"] = 0
    launch(api)
    assert _instances(ec2) == ["instances us-east-1b/one pending"]


def test_capacity_comes_back_with_the_end_of_an_instance(ec2: Ec2, api: Any) -> None:
    ec2.switches.capacity["t3.small", "us-east-1a"] = 1
    where = {"Placement": {"AvailabilityZone": "us-east-1a"}}
    one = boot(ec2, api, **where)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    boot(ec2, api, **where)
    assert refused(api.start_instances, InstanceIds=[one]) == "InsufficientInstanceCapacity"


def test_boto3_tries_again_when_there_is_no_capacity(ec2: Ec2, api: Any) -> None:
    ec2.switches.capacity["t3.small", "us-east-1a"] = 0
    wanted = machine(api, Placement={"AvailabilityZone": "us-east-1a"})
    assert refused(client(ec2, attempts=2).run_instances, **wanted) == "InsufficientInstanceCapacity"
    assert ec2.count("RunInstances") == 2


def test_the_quota_counts_vcpus_of_what_runs(ec2: Ec2, api: Any) -> None:
    ec2.switches.vcpus = 4
    one = boot(ec2, api)
    boot(ec2, api)
    code, message, status = refusal(api.run_instances, **machine(api))
    assert (code, status) == ("VcpuLimitExceeded", 400)
    assert "your current vCPU limit of 4 allows" in message
    api.stop_instances(InstanceIds=[one])
    launch(api)


@pytest.mark.parametrize("random", [b"x" * 16_384, os.urandom(16_384)], ids=["text", "bytes"])
def test_user_data_of_16384_bytes_pass_and_reach_the_machine(ec2: Ec2, api: Any, random: bytes) -> None:
    import base64

    one = boot(ec2, api, UserData=random)
    assert base64.b64decode(ec2.metadata(one)["user-data"]) == random
    assert base64.b64decode(api.describe_instance_attribute(InstanceId=one, Attribute="userData")["UserData"]["Value"]) == random


def test_user_data_of_one_byte_more_are_refused(ec2: Ec2, api: Any) -> None:
    code, message, _ = refusal(api.run_instances, **machine(api, UserData=b"x" * 16_385))
    assert (code, message) == ("InvalidParameterValue", "User data is limited to 16384 bytes")
    assert ec2.inventory() == []


def test_the_root_disk_is_that_of_the_image(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    found = shown(api, one)
    assert (found["RootDeviceName"], [disk["DeviceName"] for disk in found["BlockDeviceMappings"]]) == ("/dev/xvda", ["/dev/xvda"])
    volume = api.describe_volumes()["Volumes"][0]
    assert (volume["Size"], volume["VolumeType"], volume["Attachments"][0]["InstanceId"]) == (8, "gp3", one)


def test_tags_go_to_each_kind_of_resource(ec2: Ec2, api: Any) -> None:
    kinds = ("instance", "volume", "spot-instances-request")
    tags = [{"ResourceType": kind, "Tags": [{"Key": "bake", "Value": kind}]} for kind in kinds]
    launch(api, TagSpecifications=tags, InstanceMarketOptions={"MarketType": "spot"})
    found = api.describe_tags(Filters=[{"Name": "key", "Values": ["bake"]}])["Tags"]
    assert sorted(tag["Value"] for tag in found) == sorted(kinds)


def test_the_newest_image_may_be_named_by_its_parameter(ec2: Ec2, api: Any) -> None:
    one = launch(api, ImageId="resolve:ssm:/aws/service/debian/release/13/latest/amd64")
    assert shown(api, one)["ImageId"] == machine(api)["ImageId"]


def test_empty_names_stand_for_none(ec2: Ec2, api: Any) -> None:
    empty = dict.fromkeys(("SubnetId", "Placement.AvailabilityZone", "IamInstanceProfile.Name", "UserData"), "")
    plain = {"ImageId": machine(api)["ImageId"], "InstanceType": "t3.small", "MinCount": 1, "MaxCount": 1}
    answer = ask(ec2, "RunInstances", {**plain, **empty})
    assert answer.status == 200, answer.body
    found = shown(api, answer.text("instanceId"))
    assert found["SubnetId"].startswith("subnet-")
    assert "IamInstanceProfile" not in found


def test_without_a_default_network_a_subnet_is_needed() -> None:
    with serve(default_vpc=False, clock=lambda: NOW) as ec2:
        api = client(ec2)
        assert refused(api.run_instances, **machine(api)) == "VPCIdNotSpecified"
        vpc = api.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = api.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
        one = launch(api, SubnetId=subnet)
        assert shown(api, one)["VpcId"] == vpc
        assert not ec2.crashes


def test_disks_have_the_performance_that_is_asked_for(ec2: Ec2, api: Any) -> None:
    disks = [
        {"DeviceName": "/dev/xvda", "Ebs": {"VolumeType": "gp3", "Iops": 4000, "Throughput": 250}},
        {"DeviceName": "/dev/sdf", "Ebs": {"VolumeType": "io2", "Iops": 500, "VolumeSize": 10, "DeleteOnTermination": True}},
    ]
    boot(ec2, api, BlockDeviceMappings=disks)
    found = {volume["Attachments"][0]["Device"]: volume for volume in api.describe_volumes()["Volumes"]}
    assert [found["/dev/xvda"][name] for name in ("VolumeType", "Iops", "Throughput", "Size")] == ["gp3", 4000, 250, 8]
    assert [found["/dev/sdf"][name] for name in ("VolumeType", "Iops", "Size")] == ["io2", 500, 10]


def test_a_second_disk_is_kept_unless_told_otherwise(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 10}}])
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert [volume["Size"] for volume in api.describe_volumes()["Volumes"]] == [10]


def test_user_data_of_a_stopped_instance_can_be_changed(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, UserData=b"first")
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    api.modify_instance_attribute(InstanceId=one, UserData={"Value": b"\xffsecond"})
    assert (
        base64.b64decode(api.describe_instance_attribute(InstanceId=one, Attribute="userData")["UserData"]["Value"])
        == b"\xffsecond"
    )
    assert refused(api.modify_instance_attribute, InstanceId=one, UserData={"Value": b"x" * 16_385}) == "InvalidParameterValue"


def test_launch_time_is_that_of_the_last_start(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    first = shown(api, one)["LaunchTime"]
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert shown(api, one)["LaunchTime"] == first
    api.start_instances(InstanceIds=[one])
    assert (shown(api, one)["LaunchTime"] - first).total_seconds() == pytest.approx(2 * STATE_S)


def test_groups_of_a_network_interface_are_those_of_the_instance(ec2: Ec2, api: Any) -> None:
    group = api.create_security_group(GroupName="mine", Description="d")["GroupId"]
    one = boot(ec2, api, NetworkInterfaces=[{"DeviceIndex": 0, "Groups": [group], "AssociatePublicIpAddress": True}])
    assert [known["GroupId"] for known in shown(api, one)["SecurityGroups"]] == [group]
