"""What a machine on AWS is asked for as, read from the server."""

from __future__ import annotations

import time

import pytest

from clouds import names
from clouds.accounts import account_key
from clouds.aws import instances, network, session, user_data
from clouds.driver import Base, BootSpec, End, Kind, Wishes
from clouds.errors import CapacityError, CloudError, ConflictError, FailedError, InvalidError, NotFoundError, QuotaError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine, settle
from clouds.undo import Undo
from launcher import gc
from tests.clouds.aws.stage import Cloud, Stage
from tests.contract.bench import script_for
from tests.servers.ec2 import ApiError, LateError, states
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server
CALLER, STRANGER = "127.0.0.1", "198.51.100.9"


def end(cloud: Cloud, name: str = "mine") -> None:
    settle(cloud, cloud.delete(Kind.MACHINE, name))


def test_only_the_caller_reaches_a_machine_at_the_ports_that_are_asked_for(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud, ports=(22, 8888), wishes=Wishes(https_port=8443))
    asked = [(22, CALLER), (8443, CALLER), (22, STRANGER), (8443, STRANGER), (8888, CALLER)]
    assert [stage.server.is_open("mine", port, source) for port, source in asked] == [True, True, False, False, False]
    end(cloud)
    assert stage.left() == []


def test_options_are_checked_before_anything_is_created_and_looked_up_once(stage: Stage) -> None:
    cloud, large = stage.connect(), Wishes(machine_type="m6i.large")
    with pytest.raises(InvalidError, match=r"t9\.huge"):
        cloud.check_options(Wishes(machine_type="t9.huge"))
    with pytest.raises(InvalidError, match="zone us-east-1z: no default subnet"):
        stage.connect(zone="us-east-1z").check_options(Wishes())
    assert stage.left() == []
    stage.server.calls.clear()
    cloud.check_options(large)
    stage.boot(cloud, wishes=large)
    assert (stage.server.count("DescribeInstanceTypes"), stage.server.count("DescribeSubnets")) == (1, 1)


def test_image_that_is_deleted_after_it_was_listed_is_reported_as_such(stage: Stage) -> None:
    """Its id is kept, since a finished image never changes."""
    stage.bake()
    cloud = stage.connect()
    [image] = cloud.owned({}, {Kind.IMAGE})
    settle(stage.connect(), stage.connect().delete(Kind.IMAGE, image.name))
    with pytest.raises(NotFoundError, match=f"image {image.name}: not found on aws"):
        stage.boot(cloud, source=image.name)
    assert stage.left() == []


def test_a_machine_without_ports_admits_nobody(stage: Stage) -> None:
    stage.boot(ports=())
    assert not stage.server.is_open("mine", 22, CALLER)
    assert stage.server.count("AuthorizeSecurityGroupIngress") == 0


def test_another_address_is_admitted_in_place_of_the_one_before(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud)
    assert cloud.admit("mine") == ""
    assert "admits 198.51.100.9/32 now, and no longer 127.0.0.1/32" in cloud.admit("mine", STRANGER)
    assert [stage.server.is_open("mine", 22, source) for source in (CALLER, STRANGER)] == [False, True]
    assert "admits 127.0.0.1/32 now" in cloud.admit("mine")
    cloud.admit("mine", "198.51.100.0/24")
    assert "./inv start mine --source 127.0.0.1/32" in cloud.admit("mine")


def test_a_builder_is_closed_also_where_its_new_rule_is_not_listed_yet(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """hashicorp/terraform#6325 met groups whose rules were listed after two minutes."""
    cloud = stage.connect()
    stage.boot(cloud, ports=(), receives=True)
    cloud.open_ssh("mine")
    assert stage.server.is_open("mine", 22, CALLER)
    monkeypatch.setattr(network, "admitted", lambda group: {})
    cloud.close_ssh("mine")
    assert not stage.server.is_open("mine", 22, CALLER)


def test_what_a_command_that_was_killed_has_opened_is_closed_by_another(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud, ports=(), receives=True)
    cloud.open_ssh("mine")
    stage.connect().close_ssh("mine")
    assert not stage.server.is_open("mine", 22, CALLER)


def test_a_rule_whose_answer_was_lost_is_closed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    cloud = stage.connect()
    stage.boot(cloud, ports=(), receives=True)
    stage.server.fault("AuthorizeSecurityGroupIngress", when="after", error=ApiError("InternalError", "x", status=500))
    with pytest.raises(CloudError):
        cloud.open_ssh("mine")
    assert stage.server.is_open("mine", 22, CALLER)
    monkeypatch.setattr(network, "admitted", lambda group: {})
    cloud.close_ssh("mine")
    assert not stage.server.is_open("mine", 22, CALLER)


def test_a_machine_is_private_and_encrypted_and_goes_with_its_disk(stage: Stage) -> None:
    found = stage.boot()
    options = {key: found["MetadataOptions"][key] for key in ("HttpTokens", "HttpPutResponseHopLimit")}
    assert options == {"HttpTokens": "required", "HttpPutResponseHopLimit": 1}
    assert not found.keys() & {"KeyName", "IamInstanceProfile"}
    disk = found["BlockDeviceMappings"][0]
    assert (disk["DeviceName"], disk["Ebs"]["DeleteOnTermination"]) == (found["RootDeviceName"], True)
    volume = client(stage.server).describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"][0]
    assert (volume["Encrypted"], volume["VolumeType"]) == (True, "gp3")
    assert {tag["Key"] for tag in volume["Tags"]} >= {"Name", "project", "role", "token"}


@pytest.mark.parametrize(("at_deadline", "behavior"), [(End.STOP, "stop"), (End.DELETE, "terminate")])
def test_what_becomes_of_a_machine_that_powers_itself_off(stage: Stage, at_deadline: End, behavior: str) -> None:
    cloud = stage.connect()
    stage.boot(cloud, at_deadline=at_deadline)
    [asked] = [call.params["InstanceInitiatedShutdownBehavior"] for call in stage.server.calls if call.action == "RunInstances"]
    assert asked == behavior


@pytest.mark.parametrize(("then", "kind", "behavior"), [(End.STOP, "persistent", "stop"), (End.DELETE, "one-time", "terminate")])
def test_spot_capacity_is_asked_for_with_what_becomes_of_the_machine(stage: Stage, then: End, kind: str, behavior: str) -> None:
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True, on_preempt=then))
    [request] = client(stage.server).describe_spot_instance_requests()["SpotInstanceRequests"]
    assert (request["Type"], request["InstanceInterruptionBehavior"]) == (kind, behavior)
    end(cloud)
    stage.server.advance(600)
    assert stage.left() == []


def test_a_spot_machine_that_is_deleted_at_its_deadline_is_not_started_again(stage: Stage) -> None:
    stage.boot(wishes=Wishes(spot=True, on_preempt=End.STOP), at_deadline=End.DELETE)
    stage.server.power_off("mine")
    stage.server.advance(600)
    assert not [line for line in stage.left("securitygroup") if line.startswith("instance")]


def test_no_other_spot_machine_is_started_for_one_that_failed_late(stage: Stage) -> None:
    stage.server.fault("RunInstances", error=LateError("Server.InternalError", "Server.InternalError: it went wrong"))
    with pytest.raises(FailedError):
        stage.boot(wishes=Wishes(spot=True, on_preempt=End.STOP))
    stage.server.advance(600)
    assert stage.left() == []


def test_gc_lets_no_other_spot_machine_start_for_one_that_failed_after_its_client_was_killed(stage: Stage) -> None:
    cloud = stage.connect()
    stage.server.fault("RunInstances", error=LateError("Server.InternalError", "Server.InternalError: it went wrong"))
    source = cloud.resolve_base(Base("trixie", "amd64")).id
    size = {"cpus": 2, "memory_mb": 2048, "disk_gb": 8, "labels": {"role": "machine-in-progress"}, "deadline_s": 3600}
    ticket = cloud.boot(BootSpec(name="mine", token="t", source=source, wishes=Wishes(spot=True), **size))
    Ledger(stage.home / "ledger.sqlite3").begin(account_key(cloud), ticket)
    time.sleep(0.2)
    other = stage.connect()
    gc.forget_absent(other, Ledger(stage.home / "ledger.sqlite3"), now=time.time())
    stage.server.advance(600)
    assert not [line for line in stage.left() if line.startswith(("instances", "spot"))]


def test_a_spot_machine_whose_request_is_gone_is_deleted(stage: Stage) -> None:
    """NixOS/nixops#514: requests that ended a while ago are not found any more."""
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True, on_preempt=End.DELETE))
    gone = ApiError("InvalidSpotInstanceRequestID.NotFound", "The spot instance request ID 'sir-1' does not exist")
    stage.server.fault("CancelSpotInstanceRequests", error=gone, nth=None)
    end(cloud)
    assert stage.left() == []


def test_a_machine_of_one_time_spot_capacity_cannot_be_stopped(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True, on_preempt=End.DELETE))
    with pytest.raises(InvalidError) as caught:
        cloud.stop("mine")
    assert "delete it" in caught.value.next_step


def test_a_machine_of_persistent_spot_capacity_is_started_again_once_its_request_allows_it(stage: Stage) -> None:
    stage.server.switches.spot_lag_s = 0.3
    cloud = stage.connect()
    stage.boot(cloud, wishes=Wishes(spot=True, on_preempt=End.STOP))
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=0, facts={}))
    assert stage.instance()["State"]["Name"] == "running"
    assert stage.server.count("StartInstances") > 1


def test_a_start_is_not_judged_by_the_state_before_it(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    stage.server.switches.stale_calls = 3
    settle(cloud, cloud.start("mine", deadline_s=0, facts={}))
    assert cloud.address("mine", 22).host


def test_an_image_is_made_of_a_machine_that_was_seen_off(stage: Stage) -> None:
    """A later look may show the state before: aws-samples/aws-python-sample#10."""
    cloud = stage.connect()
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    instance = stage.server.instance("mine")
    stage.server.fault("DescribeInstances", error=lambda: states.set_state(instance, "stopping"), nth=None)
    stage.server.fault("CreateImage", error=lambda: states.set_state(instance, "stopped"))
    settle(cloud, cloud.snapshot("mine", "image-1", {"bake": "b"}))


def test_a_start_that_fails_late_is_an_error(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    ticket = cloud.start("mine", deadline_s=0, facts={})
    instance = stage.server.instance("mine")

    def fail() -> None:
        states.set_state(instance, "stopped")
        states.set_reason(instance, "Client.VolumeLimitExceeded", "Volume limit exceeded")

    stage.server.fault("DescribeInstances", error=fail, nth=None)
    with pytest.raises(QuotaError, match="Volume limit exceeded"):
        settle(cloud, ticket)


def test_what_is_left_of_machines_and_images_that_are_gone_is_listed_and_removed(stage: Stage) -> None:
    api, cloud = client(stage.server), stage.connect()
    tags = [{"Key": "project", "Value": "bakehouse"}, {"Key": "Name", "Value": "gone"}]
    marked = {"TagSpecifications": [{"ResourceType": "volume", "Tags": tags}]}
    volume = api.create_volume(AvailabilityZone="us-east-1a", Size=1, **marked)["VolumeId"]
    group = api.create_security_group(GroupName="bakehouse-gone-12345678", Description="x")["GroupId"]
    api.create_tags(Resources=[group], Tags=[*tags, {"Key": "machine", "Value": "gone"}])
    stage.boot(cloud)
    stage.server.advance(1)
    found = cloud.owned({}, {Kind.DISK, Kind.RULE})
    assert sorted((one.kind, one.name) for one in found) == [(Kind.DISK, volume), (Kind.RULE, "bakehouse-gone-12345678")]
    for one in found:
        settle(cloud, cloud.delete(one.kind, one.name))
    end(cloud)
    assert stage.left() == []


def test_a_machine_without_a_public_address_has_none(stage: Stage) -> None:
    cloud = stage.connect()
    found = stage.boot(cloud, wishes=Wishes(no_public_ip=True))
    assert not found.get("PublicIpAddress")
    assert cloud._lookup.glance("mine")["PrivateIpAddress"] == found["PrivateIpAddress"]


def test_a_static_address_is_reserved_once_kept_between_machines_and_given_back(stage: Stage) -> None:
    cloud = stage.connect()
    first = stage.boot(cloud, wishes=Wishes(static_ip="front"))["PublicIpAddress"]
    end(cloud)
    assert stage.boot(cloud, name="other", wishes=Wishes(static_ip="front"))["PublicIpAddress"] == first
    assert stage.server.count("AllocateAddress") == 1
    with pytest.raises(ConflictError, match="in use by i-"):
        stage.boot(cloud, wishes=Wishes(static_ip="front"))
    end(cloud, "other")
    assert [found.name for found in cloud.owned({}, {Kind.ADDRESS})] == ["front"]
    settle(cloud, cloud.delete(Kind.ADDRESS, "front"))
    assert stage.left() == []


def test_a_machine_with_a_static_address_is_reached_there_from_its_start(stage: Stage) -> None:
    cloud = stage.connect()
    with Undo() as undo:
        source = cloud.resolve_base(Base("trixie", "amd64")).id
        size = {"cpus": 2, "memory_mb": 2048, "disk_gb": 8, "labels": {"role": "machine"}, "deadline_s": 3600, "ports": (22,)}
        spec = BootSpec(name="mine", token="t", source=source, wishes=Wishes(static_ip="front"), **size)
        create_machine(cloud, Ledger(stage.home / "ledger.sqlite3"), undo, spec)
        undo.release()
    seen = cloud._lookup.glance("mine")
    assert seen.get("PublicIpAddress") == stage.instance()["PublicIpAddress"]


def test_an_address_whose_association_was_not_answered_is_ours_all_the_same(stage: Stage) -> None:
    cloud = stage.connect()
    stage.server.fault("AssociateAddress", when="after", error=ApiError("InternalError", "x", status=500))
    stage.server.fault("AssociateAddress", error=ApiError("Resource.AlreadyAssociated", "already associated"), nth=2)
    assert stage.boot(cloud, wishes=Wishes(static_ip="front"))["PublicIpAddress"]


def test_an_unknown_type_is_refused_with_a_next_step_before_anything_is_made(stage: Stage) -> None:
    with pytest.raises(InvalidError, match=r"instance type t3\.tiny: .* do not exist") as refused:
        stage.boot(wishes=Wishes(machine_type="t3.tiny"))
    assert "Choose a --type" in refused.value.next_step
    assert "aws ec2 describe-instance-types" in refused.value.next_step
    assert stage.left() == []


def test_a_type_that_is_not_nitro_is_refused_before_anything_is_made(stage: Stage) -> None:
    with pytest.raises(InvalidError, match="not a Nitro type"):
        stage.boot(wishes=Wishes(machine_type="t2.small"))
    assert stage.left() == []


def test_an_image_of_an_account_that_nobody_named_is_not_started(stage: Stage) -> None:
    base = stage.connect().resolve_base(Base("trixie", "amd64"))
    with pytest.raises(InvalidError, match="account 136693071363, which your settings do not name"):
        stage.boot(stage.connect(debian_owner="111111111111"), source=base.id)


def test_a_base_that_is_gone_is_told_with_what_to_do(stage: Stage) -> None:
    with pytest.raises(NotFoundError) as caught:
        stage.boot(source="ami-00000000000000000")
    assert "--refresh" in caught.value.next_step


def test_a_stopped_machine_is_told_new_facts_and_keeps_the_others(stage: Stage) -> None:
    cloud = stage.connect()
    nonce = names.new_nonce()
    stage.boot(cloud, facts={"A": "1", "B": "it's"}, script=script_for(nonce))
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.start("mine", deadline_s=0, facts={"A": "2"}))
    told = user_data.from_base64(stage.server.metadata("mine")["user-data"])
    assert (user_data.facts_of(told), user_data.script_of(told)) == ({"A": "2", "B": "it's"}, script_for(nonce))


def test_without_capacity_the_zones_that_the_error_names_are_tried(stage: Stage) -> None:
    for zone in ("us-east-1a", "us-east-1b"):
        stage.server.switches.capacity["t3.small", zone] = 0
    cloud = stage.connect()
    assert stage.boot(cloud)["Placement"]["AvailabilityZone"] == "us-east-1c"
    end(cloud)
    assert stage.left() == []


def test_without_capacity_anywhere_five_zones_are_tried_and_nothing_is_left(stage: Stage) -> None:
    for letter in "abcdef":
        stage.server.switches.capacity["t3.small", f"us-east-1{letter}"] = 0
    with pytest.raises(CapacityError) as caught:
        stage.boot()
    assert "--zone" in caught.value.next_step
    zones = {call.params["NetworkInterface.1.SubnetId"] for call in stage.server.calls if call.action == "RunInstances"}
    assert len(zones) == 5
    assert stage.left() == []


def test_a_quota_is_told_with_what_was_asked_for_and_where_to_ask_for_more(stage: Stage) -> None:
    stage.server.switches.vcpus = 1
    with pytest.raises(QuotaError, match=r"t3\.small \(2 vCPUs\) was asked for") as caught:
        stage.boot()
    assert "servicequotas" in caught.value.next_step
    assert stage.left() == []


def test_of_two_machines_of_one_name_the_later_gives_way(stage: Stage) -> None:
    first, second = stage.connect(), stage.connect()
    kept: list[str] = []
    base = stage.boot(first, name="base")["ImageId"]

    def be_late(**_: object) -> None:
        kept.append(stage.boot(first, source=base)["InstanceId"])

    second._client._session._session.events.register("before-call.ec2.CreateSecurityGroup", be_late)
    with pytest.raises(ConflictError, match="already exists on aws"):
        stage.boot(second, source=base)
    assert [first._lookup.get("mine")["InstanceId"]] == kept
    assert len([line for line in stage.left() if "mine" in line]) == 3  # instance, volume, security group


def test_another_machine_of_the_name_is_kept_when_ours_ends_right_before_its_removal(stage: Stage) -> None:
    first, second = stage.connect(), stage.connect()
    kept = stage.boot(first)["InstanceId"]
    ours = stage.boot(second, name="later", token="ours")["InstanceId"]
    client(stage.server).create_tags(Resources=[ours], Tags=[{"Key": "Name", "Value": "mine"}])
    second._lookup.know("mine", ours)
    instance = stage.server.instance(ours)
    stage.server.fault("DescribeInstances", when="after", error=lambda: states.set_state(instance, "terminated"))
    found = second.find(Kind.MACHINE, "mine")
    assert found
    assert found.labels["token"] == "ours"
    settle(second, second.delete(Kind.MACHINE, "mine"))
    assert first._lookup.get("mine")["InstanceId"] == kept
    assert stage.server.instance(kept).state == "running"


def test_what_ends_while_it_is_removed_takes_no_other_machine_of_its_name_along(stage: Stage) -> None:
    first, second = stage.connect(), stage.connect()
    kept = stage.boot(first)["InstanceId"]
    ours = stage.boot(second, name="later", token="ours")["InstanceId"]
    client(stage.server).create_tags(Resources=[ours], Tags=[{"Key": "Name", "Value": "mine"}])
    second._lookup.know("mine", ours)
    states.set_state(stage.server.instance(ours), "terminated")
    for _ in range(2):
        settle(second, second.delete(Kind.MACHINE, "mine"))
    assert stage.server.instance(kept).state == "running"


def test_of_several_machines_of_one_name_the_oldest_is_meant_also_after_a_list(stage: Stage) -> None:
    cloud = stage.connect()
    kept = stage.boot(cloud)["InstanceId"]
    for name in ("b", "c"):
        time.sleep(1)  # times of EC2 are in seconds
        later = stage.boot(cloud, name=name)["InstanceId"]
        client(stage.server).create_tags(Resources=[later], Tags=[{"Key": "Name", "Value": "mine"}])
    again = stage.connect()
    assert len(again.owned({}, {Kind.MACHINE})) == 3
    assert again._lookup.get("mine")["InstanceId"] == kept


def test_the_group_of_a_machine_that_is_ending_goes_with_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """An instance that has ended shows no groups. From which moment of its end on, AWS does not say."""
    stage.boot()
    stage.server.power_off("mine")
    monkeypatch.setattr(instances, "groups_of", lambda instance: {})
    end(stage.connect())
    assert stage.left() == []


def test_a_disabled_image_is_found_and_deleted(stage: Stage) -> None:
    cloud, api = stage.connect(), client(stage.server)
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    settle(cloud, cloud.snapshot("mine", "image-1", {"bake": "b"}))
    end(cloud)
    api.disable_image(ImageId=api.describe_images(Owners=["self"])["Images"][0]["ImageId"])
    assert [found.name for found in cloud.owned({}, {Kind.IMAGE})] == ["image-1"]
    assert cloud.find(Kind.IMAGE, "image-1") == cloud.owned({}, {Kind.IMAGE})[0]
    with pytest.raises(InvalidError, match="image image-1: it is disabled"):
        stage.boot(cloud, source="image-1")
    settle(cloud, cloud.delete(Kind.IMAGE, "image-1"))
    assert stage.left() == []


def test_an_image_that_is_deleted_while_it_is_made_is_not_waited_for(stage: Stage) -> None:
    cloud, api = stage.connect(), client(stage.server)
    stage.server.cloud.image_s = 3600.0
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    ticket = cloud.snapshot("mine", "image-1", {"bake": "b"})
    assert not cloud.check(ticket)
    api.deregister_image(ImageId=ticket.operation)
    began = time.monotonic()
    with pytest.raises(NotFoundError, match="image image-1: it was deleted"):
        settle(cloud, ticket)
    assert time.monotonic() - began < 20  # and not the time limit of an image
