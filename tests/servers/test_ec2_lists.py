"""The EC2 server: filters, pages, and describes that lag behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2_asking import STATE_S, ask, boot, image, launch, machine, refusal, refused, state

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def _ids(answer: dict[str, Any]) -> list[str]:
    return [instance["InstanceId"] for reservation in answer["Reservations"] for instance in reservation["Instances"]]


def _by(name: str, *values: str) -> dict[str, Any]:
    return {"Filters": [{"Name": name, "Values": list(values)}]}


def test_filters_of_instances(ec2: Ec2, api: Any) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "two"}, {"Key": "bake", "Value": "b-1"}]}]
    one, two = boot(ec2, api), boot(ec2, api, TagSpecifications=tags, InstanceType="t3.large", ClientToken="token-2")
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    found = {
        "instance-state-name": ("stopp*", [one]),
        "tag:bake": ("b-1", [two]),
        "tag-key": ("bake", [two]),
        "tag:Name": ("*", [one, two]),
        "instance-type": ("t3.large", [two]),
        "client-token": ("token-2", [two]),
        "instance-id": (one, [one]),
        "vpc-id": ("vpc-0", []),
    }
    for name, (value, ids) in found.items():
        assert sorted(_ids(api.describe_instances(**_by(name, value)))) == sorted(ids), name


def test_filters_are_joined_by_and_their_values_by_or(ec2: Ec2, api: Any) -> None:
    one, two = launch(api), launch(api, InstanceType="t3.large")
    assert sorted(_ids(api.describe_instances(**_by("instance-type", "t3.small", "t3.large")))) == sorted([one, two])
    both = [{"Name": "instance-type", "Values": ["t3.large"]}, {"Name": "tag:Name", "Values": ["one"]}]
    assert _ids(api.describe_instances(Filters=both)) == [two]


def test_an_instance_of_a_reservation_may_be_shown_alone(ec2: Ec2, api: Any) -> None:
    made = [one["InstanceId"] for one in api.run_instances(**machine(api, MinCount=3, MaxCount=3))["Instances"]]
    assert _ids(api.describe_instances(InstanceIds=made[1:2])) == made[1:2]
    assert sorted(_ids(api.describe_instances())) == sorted(made)


def test_an_unknown_filter_is_refused(ec2: Ec2, api: Any) -> None:
    assert refusal(api.describe_instances, **_by("public-ip", "1"))[:2] == (
        "InvalidParameterValue",
        "The filter 'public-ip' is invalid",
    )
    assert refused(api.describe_instance_status, **_by("tag:Name", "one")) == "InvalidParameterValue"


def test_a_filter_that_is_not_served_is_reported(ec2: Ec2, api: Any) -> None:
    launch(api)
    assert refused(api.describe_instances, **_by("monitoring-state", "disabled")) == "InvalidAction"
    assert "monitoring-state" in ec2.crashes.pop()


def test_lists_come_in_pages(ec2: Ec2, api: Any) -> None:
    made = sorted(launch(api) for _ in range(7))
    page = api.describe_instances(MaxResults=5)
    assert len(_ids(page)) == 5
    rest = api.describe_instances(MaxResults=5, NextToken=page["NextToken"])
    assert "NextToken" not in rest
    assert sorted(_ids(page) + _ids(rest)) == made


def test_a_test_may_set_the_page_size(ec2: Ec2, api: Any) -> None:
    for _ in range(3):
        launch(api)
    ec2.switches.page_size = 1
    assert len(_ids(api.describe_instances())) == 1
    assert sum(len(page["Reservations"]) for page in api.get_paginator("describe_instances").paginate()) == 3
    pages = list(api.get_paginator("describe_images").paginate(Owners=["136693071363"]))
    assert [len(page["Images"]) for page in pages] == [1] * len(pages)


def test_a_token_of_another_list_is_refused(ec2: Ec2, api: Any) -> None:
    ec2.switches.page_size = 1
    token = api.describe_images()["NextToken"]
    assert refused(api.describe_instances, NextToken=token) == "InvalidPaginationToken"


def test_describes_do_not_see_a_new_instance_for_some_calls(ec2: Ec2, api: Any) -> None:
    ec2.switches.unseen_calls = 2
    one = launch(api)
    assert refused(api.describe_instances, InstanceIds=[one]) == "InvalidInstanceID.NotFound"
    assert _ids(api.describe_instances()) == []
    assert state(api, one) == "pending"


def test_describes_show_the_state_before_a_start_for_some_calls(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    ec2.switches.stale_calls = 2
    api.start_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    listed = [api.describe_instances()["Reservations"][0]["Instances"][0] for _ in range(3)]
    seen = [(instance["State"]["Name"], instance.get("StateReason", {}).get("Code", "")) for instance in listed]
    assert seen == [("stopped", "Client.UserInitiatedShutdown")] * 2 + [("running", "")]
    assert listed[0]["LaunchTime"] < listed[2]["LaunchTime"]


def test_writes_that_name_it_fail_as_long(ec2: Ec2, api: Any) -> None:
    ec2.switches.unseen_calls = 1
    one = launch(api)
    tag = {"Resources": [one], "Tags": [{"Key": "a", "Value": "b"}]}
    assert refused(api.create_tags, **tag) == "InvalidInstanceID.NotFound"
    assert refused(api.terminate_instances, InstanceIds=[one]) == "InvalidInstanceID.NotFound"
    api.describe_instances()
    api.create_tags(**tag)


def test_refused_writes_may_be_among_those_calls(ec2: Ec2, api: Any) -> None:
    ec2.switches.unseen_calls, ec2.switches.writes_count = 2, True
    one = launch(api)
    tag = {"Resources": [one], "Tags": [{"Key": "a", "Value": "b"}]}
    assert [refused(api.create_tags, **tag) for _ in range(2)] == ["InvalidInstanceID.NotFound"] * 2
    api.create_tags(**tag)


def test_the_image_of_a_new_instance_lags_too(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    ec2.switches.unseen_calls = 1
    mine = api.create_image(InstanceId=one, Name="mine")["ImageId"]
    assert api.describe_images(Owners=["self"])["Images"] == []
    assert api.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    assert api.describe_images(ImageIds=[mine])["Images"][0]["State"] == "pending"
    assert len(api.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1


@pytest.mark.parametrize("kind", ["group", "key", "volume", "address", "spot"])
def test_other_new_things_lag_too(ec2: Ec2, api: Any, kind: str) -> None:
    from tests.servers.ec2_asking import KEY

    ec2.switches.unseen_calls = 1
    make: dict[str, Any] = {
        "group": lambda: api.create_security_group(GroupName="web", Description="any"),
        "key": lambda: api.import_key_pair(KeyName="mine", PublicKeyMaterial=KEY.encode()),
        "volume": lambda: api.create_volume(AvailabilityZone="us-east-1a", Size=1),
        "address": lambda: api.allocate_address(Domain="vpc"),
        "spot": lambda: launch(api, InstanceMarketOptions={"MarketType": "spot"}),
    }
    see: dict[str, Any] = {
        "group": lambda: [one for one in api.describe_security_groups()["SecurityGroups"] if one["GroupName"] == "web"],
        "key": lambda: api.describe_key_pairs()["KeyPairs"],
        "volume": lambda: api.describe_volumes()["Volumes"],
        "address": lambda: api.describe_addresses()["Addresses"],
        "spot": lambda: api.describe_spot_instance_requests()["SpotInstanceRequests"],
    }
    make[kind]()
    assert [len(see[kind]()) for _ in range(2)] == [0, 1]


def test_filters_by_tag_may_lag_alone(ec2: Ec2, api: Any) -> None:
    ec2.switches.untagged_calls = 1
    one = launch(api)
    assert state(api, one) == "pending"
    assert [len(_ids(api.describe_instances(**_by("tag:Name", "one")))) for _ in range(2)] == [0, 1]


def test_what_was_there_before_is_seen(ec2: Ec2, api: Any) -> None:
    mine = image(ec2, api, boot(ec2, api))
    ec2.switches.unseen_calls = 5
    launch(api)
    assert api.describe_images(ImageIds=[mine])["Images"][0]["Name"] == "mine"


def test_parameters_are_checked_by_the_model(ec2: Ec2) -> None:
    answer = ask(ec2, "DescribeInstances", {"Colour": "red"})
    assert (answer.status, answer.text("Code"), answer.text("Message")) == (
        400,
        "UnknownParameter",
        "The parameter Colour is not recognized",
    )
