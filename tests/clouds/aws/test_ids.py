"""Requests that name what this process has seen by its id, without another look: what happens where it is gone meanwhile."""

from __future__ import annotations

import json

import pytest

from clouds.driver import Base, Kind, State
from clouds.errors import ConflictError, NotFoundError
from clouds.lifecycle import settle
from tests.clouds.aws.stage import Cloud, Stage, Wire
from tests.servers.ec2 import internal_error, states
from tests.servers.ec2_asking import client

pytestmark = pytest.mark.server


def with_image(stage: Stage, cloud: Cloud, *, untagged_calls: int = 0) -> str:
    """Make an image called `image-1` of a machine that is off; return its id."""
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    stage.server.switches.untagged_calls = untagged_calls
    ticket = cloud.snapshot("mine", "image-1", {"bake": "b"})
    settle(cloud, ticket)
    return ticket.operation


def test_a_stop_of_a_machine_that_has_ended_says_so(stage: Stage) -> None:
    cloud = stage.connect()
    instance = stage.server.instance(stage.boot(cloud)["InstanceId"])
    states.set_state(instance, "terminated")
    with pytest.raises(NotFoundError, match="machine mine: not found"):
        cloud.stop("mine")


def test_a_machine_that_was_started_elsewhere_is_stopped(stage: Stage) -> None:
    cloud, other = stage.connect(), stage.connect()
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    settle(other, other.start("mine", deadline_s=3600, facts={}))
    settle(cloud, cloud.stop("mine"))
    assert stage.server.instance("mine").state == "stopped"


def test_a_delete_of_a_machine_that_has_ended_removes_its_security_group(stage: Stage) -> None:
    cloud = stage.connect()
    instance = stage.server.instance(stage.boot(cloud)["InstanceId"])
    client(stage.server).terminate_instances(InstanceIds=[instance.id])
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_a_machine_is_gone_only_when_its_security_group_is_not_used_any_more(stage: Stage) -> None:
    """EC2 refuses to delete a group as long as an instance that uses it has not ended: aws/aws-sdk-java#163."""
    cloud = stage.connect()
    stage.boot(cloud)
    stage.server.cloud.state_s = 3600.0
    ticket = cloud.delete(Kind.MACHINE, "mine")
    assert not cloud.check(ticket)
    assert stage.server.instance("mine").state == "shutting-down"
    stage.server.advance(3600.0)
    settle(cloud, ticket)
    assert stage.left() == []


def test_a_base_that_has_gone_since_it_was_kept_is_told_with_what_to_do(stage: Stage) -> None:
    cloud = stage.connect()
    base = cloud.resolve_base(Base("trixie", "amd64"))
    (region,) = stage.server.cloud.regions()
    del region.amis[base.id]
    with pytest.raises(NotFoundError) as caught:
        stage.boot(stage.connect())
    assert caught.value.next_step == "Take the newest base: ./inv bake --refresh"
    assert stage.left() == []


def test_a_base_that_an_older_release_has_kept_is_looked_up(stage: Stage) -> None:
    stage.connect().resolve_base(Base("trixie", "amd64"))
    (file,) = (stage.home / "aws").glob("bases-*.json")
    kept = json.loads(file.read_text())
    for facts in kept.values():
        del facts["root_device"]
    file.write_text(json.dumps(kept))
    assert stage.boot()["State"]["Name"] == "running"


def test_an_image_that_was_deleted_since_it_was_listed_starts_no_machine(stage: Stage) -> None:
    cloud = stage.connect()
    image = with_image(stage, cloud)
    assert cloud.find(Kind.IMAGE, "image-1")
    client(stage.server).deregister_image(ImageId=image)
    with pytest.raises(NotFoundError, match="image image-1: not found"):
        stage.boot(cloud, name="next", source="image-1")
    assert [line for line in stage.left() if "next" in line] == []


def test_an_image_that_was_deleted_since_it_was_listed_gets_no_label(stage: Stage) -> None:
    cloud = stage.connect()
    image = with_image(stage, cloud)
    client(stage.server).deregister_image(ImageId=image)
    with pytest.raises(NotFoundError, match="image image-1: not found"):
        cloud.label(Kind.IMAGE, "image-1", {"state": "stable"})


def test_an_image_is_finished_only_once_it_is_listed_by_its_name(stage: Stage) -> None:
    cloud = stage.connect()
    with_image(stage, cloud, untagged_calls=3)
    found = cloud.find(Kind.IMAGE, "image-1")
    assert found
    assert found.state is State.READY


def test_a_machine_is_booted_only_once_it_is_found(stage: Stage) -> None:
    cloud = stage.connect()
    stage.server.switches.unseen_calls, stage.server.switches.writes_count = 3, True
    stage.boot(cloud)
    assert cloud.limits.listed_when_done
    assert cloud.find(Kind.MACHINE, "mine")


@pytest.mark.parametrize("tags", [{}, {"project": "bakehouse", "bake": "other"}])
def test_an_image_of_that_name_which_is_not_ours_is_a_conflict_at_once(stage: Stage, tags: dict[str, str]) -> None:
    cloud, api = stage.connect(), client(stage.server)
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    tagged = [{"ResourceType": "image", "Tags": listed}] if tags else []
    api.create_image(InstanceId=stage.instance()["InstanceId"], Name="image-1", NoReboot=True, TagSpecifications=tagged)
    stage.server.calls.clear()
    with pytest.raises(ConflictError, match="the name is taken"):
        cloud.snapshot("mine", "image-1", {"bake": "b"})
    assert stage.server.count("DescribeImages") == 1


def test_an_image_whose_answer_was_lost_is_found_although_it_is_not_listed_yet(stage: Stage) -> None:
    cloud = stage.connect()
    stage.boot(cloud)
    settle(cloud, cloud.stop("mine"))
    stage.server.switches.unseen_calls = 2
    stage.server.fault("CreateImage", when="after", error=internal_error())
    ticket = cloud.snapshot("mine", "image-1", {"bake": "b"})
    settle(cloud, ticket)
    assert len([line for line in stage.left() if line.startswith("images ")]) == 1


@pytest.mark.parametrize("kind", [Kind.IMAGE, Kind.MACHINE])
@pytest.mark.parametrize("name", ["", "../x", "a/b", "x/", "\udcff", "*", "x" * 300])
def test_what_no_name_can_be_is_not_found_without_a_request(stage: Stage, kind: Kind, name: str) -> None:
    wire = Wire()
    assert stage.connect(wire).find(kind, name) is None
    assert wire.seen == {}
