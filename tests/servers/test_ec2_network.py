"""The EC2 server: security groups, keys, addresses and networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2_asking import KEY, STATE_S, boot, client, launch, refusal, refused, shown

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def _group(api: Any, name: str = "web", **more: Any) -> str:
    return str(api.create_security_group(GroupName=name, Description="any", **more)["GroupId"])


def _rule(cidr: str = "203.0.113.5/32", port: int = 443) -> dict[str, Any]:
    return {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}


def test_a_port_is_open_to_whom_a_rule_names(ec2: Ec2, api: Any) -> None:
    group = _group(api)
    one = boot(ec2, api, SecurityGroupIds=[group])
    assert not ec2.is_open(one, 443, "203.0.113.5")
    api.authorize_security_group_ingress(GroupId=group, IpPermissions=[_rule()])
    asked = [(443, "203.0.113.5"), (443, "203.0.113.6"), (22, "203.0.113.5")]
    assert [ec2.is_open(one, port, source) for port, source in asked] == [True, False, False]
    api.revoke_security_group_ingress(GroupId=group, IpPermissions=[_rule()])
    assert not ec2.is_open(one, 443, "203.0.113.5")


def test_the_same_rule_twice_is_refused(ec2: Ec2, api: Any) -> None:
    group = _group(api)
    api.authorize_security_group_ingress(GroupId=group, IpPermissions=[_rule()])
    assert refused(api.authorize_security_group_ingress, GroupId=group, IpPermissions=[_rule()]) == "InvalidPermission.Duplicate"


def test_a_group_in_use_cannot_be_deleted(ec2: Ec2, api: Any) -> None:
    group = _group(api)
    one = boot(ec2, api, SecurityGroupIds=[group])
    code, message, status = refusal(api.delete_security_group, GroupId=group)
    assert (code, message, status) == ("DependencyViolation", f"resource {group} has a dependent object", 400)
    api.terminate_instances(InstanceIds=[one])
    assert refused(api.delete_security_group, GroupId=group) == "DependencyViolation"
    ec2.advance(STATE_S)
    api.delete_security_group(GroupId=group)
    assert ec2.inventory() == []


def test_a_group_that_another_one_names_cannot_be_deleted(ec2: Ec2, api: Any) -> None:
    group, other = _group(api), _group(api, "other")
    rule = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "UserIdGroupPairs": [{"GroupId": group}]}
    api.authorize_security_group_ingress(GroupId=other, IpPermissions=[rule])
    assert refused(api.delete_security_group, GroupId=group) == "DependencyViolation"
    api.revoke_security_group_ingress(GroupId=other, IpPermissions=[rule])
    api.delete_security_group(GroupId=group)


def test_an_address_in_use_in_a_default_network_is_taken_from_its_instance(ec2: Ec2, api: Any) -> None:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReleaseAddress.html."""
    address = api.allocate_address(Domain="vpc")
    one = boot(ec2, api)
    api.associate_address(AllocationId=address["AllocationId"], InstanceId=one)
    api.release_address(AllocationId=address["AllocationId"])
    assert shown(api, one).get("PublicIpAddress") != address["PublicIp"]
    assert not [line for line in ec2.inventory() if line.startswith("addresses")]


def test_an_address_in_use_in_another_network_cannot_be_released(ec2: Ec2, api: Any) -> None:
    address = api.allocate_address(Domain="vpc")
    vpc = api.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = api.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    one = boot(ec2, api, SubnetId=subnet)
    association = api.associate_address(AllocationId=address["AllocationId"], InstanceId=one)["AssociationId"]
    assert shown(api, one)["PublicIpAddress"] == address["PublicIp"]
    assert refused(api.release_address, AllocationId=address["AllocationId"]) == "InvalidIPAddress.InUse"
    api.disassociate_address(AssociationId=association)
    api.release_address(AllocationId=address["AllocationId"])
    assert refused(api.release_address, AllocationId=address["AllocationId"]) == "InvalidAllocationID.NotFound"


def test_an_address_outlives_its_instance_and_its_stops(ec2: Ec2, api: Any) -> None:
    address = api.allocate_address(Domain="vpc")
    one = boot(ec2, api)
    api.associate_address(AllocationId=address["AllocationId"], InstanceId=one)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert shown(api, one)["PublicIpAddress"] == address["PublicIp"]
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert ec2.inventory() == [f"addresses us-east-1/{address['PublicIp']}"]


def test_addresses_have_a_quota(ec2: Ec2, api: Any) -> None:
    ec2.switches.addresses = 1
    api.allocate_address(Domain="vpc")
    assert refused(api.allocate_address, Domain="vpc") == "AddressLimitExceeded"


def test_keys(ec2: Ec2, api: Any) -> None:
    tags = [{"ResourceType": "key-pair", "Tags": [{"Key": "bake", "Value": "1"}]}]
    api.import_key_pair(KeyName="mine", PublicKeyMaterial=KEY.encode(), TagSpecifications=tags)
    assert refused(api.import_key_pair, KeyName="mine", PublicKeyMaterial=KEY.encode()) == "InvalidKeyPair.Duplicate"
    assert ec2.inventory() == ["key-pairs us-east-1/mine"]
    one = boot(ec2, api, KeyName="mine")
    assert ec2.metadata(one)["meta-data/public-keys/0/openssh-key"].startswith("ssh-ed25519 AAAA")
    for _ in range(2):
        api.delete_key_pair(KeyName="mine")


def test_a_subnet_in_use_cannot_be_deleted(ec2: Ec2, api: Any) -> None:
    vpc = api.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = api.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24", AvailabilityZone="us-east-1a")["Subnet"]["SubnetId"]
    launch(api, SubnetId=subnet)
    assert refused(api.delete_subnet, SubnetId=subnet) == "DependencyViolation"
    assert refused(api.delete_vpc, VpcId=vpc) == "DependencyViolation"


def test_a_group_of_another_network_is_refused(ec2: Ec2, api: Any) -> None:
    vpc = api.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    from tests.servers.ec2_asking import machine

    code, message, _ = refusal(api.run_instances, **machine(api, SecurityGroupIds=[_group(api, VpcId=vpc)]))
    assert (code, "belong to different networks" in message) == ("InvalidParameter", True)


def test_what_a_new_account_has_is_no_inventory(ec2: Ec2, api: Any) -> None:
    assert len(api.describe_subnets()["Subnets"]) == 6
    assert client(ec2, region="eu-west-1").describe_vpcs()["Vpcs"][0]["IsDefault"]
    assert ec2.inventory() == []
