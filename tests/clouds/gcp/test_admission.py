"""Who may reach a machine after its owner's address, or its firewall rules, have changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clouds.driver import BootSpec, Kind
from clouds.gcp.client import Client
from clouds.gcp.images import Images
from clouds.gcp.places import places
from clouds.lifecycle import settle
from launcher import power
from launcher.launch import LaunchOptions
from tests.clouds.gcp.stage import Cloud, NewStage, Stage, launch_tiny
from tests.clouds.gcp.stub import SPEC
from tests.servers.gce.errors import forbidden

pytestmark = pytest.mark.server

HERE, BEFORE, OFFICE = "127.0.0.1/32", "198.51.100.7/32", "203.0.113.0/24"
SSH, PATCH = "projects/demo/global/firewalls/bakehouse-mine-ssh", "compute.firewalls.patch"


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give a cloud with a machine `mine`."""
    made = new_stage("launch")
    made.play(launch_tiny)
    assert made.error is None
    return made


def at(stage: Stage, **settings: str) -> Cloud:
    """Return the driver with these settings."""
    where = places({"project": "demo", **settings})
    client = Client("demo", stage.server.url, retry_s=0.3)
    return Cloud(client, where, Images(client, where.region, stage.home / "gcp" / "bases.json"), slowness=0.02)


def change(stage: Stage, **fields: Any) -> None:
    """Change the SSH rule of the machine behind the driver's back."""
    stage.server.cloud.store.get(SSH).update(fields)


def ranges(stage: Stage) -> list[str]:
    return list(stage.server.cloud.store.get(SSH)["sourceRanges"])


def test_machine_that_is_started_from_another_address_admits_that_and_no_longer_the_one_before(stage: Stage) -> None:
    change(stage, sourceRanges=[BEFORE])
    told: list[str] = []
    power.start(stage.connect(), "mine", tell=told.append)
    assert told == [f"firewall of machine 'mine': now admits {HERE}, no longer {BEFORE}"]
    assert stage.server.is_open("mine", 22, "127.0.0.1")
    assert not stage.server.is_open("mine", 22, "198.51.100.7")


@pytest.mark.parametrize("verb", ["stop", "suspend"])
def test_machine_that_was_off_admits_the_address_from_which_it_is_started(stage: Stage, verb: str) -> None:
    cloud = stage.connect()
    settle(cloud, getattr(cloud, verb)("mine"))
    change(stage, sourceRanges=[BEFORE])
    assert cloud.admit("mine")
    assert ranges(stage) == [HERE]


def test_address_that_is_admitted_costs_no_change(stage: Stage) -> None:
    assert stage.connect().admit("mine") == ""
    change(stage, sourceRanges=["127.0.0.0/8"])
    assert stage.connect().admit("mine") == ""
    assert stage.server.count(PATCH) == 0


def test_range_that_somebody_has_chosen_stays_and_that_is_said_with_what_to_do(stage: Stage) -> None:
    change(stage, sourceRanges=[OFFICE])
    told = stage.connect().admit("mine")
    assert f"admits {OFFICE}, but not your address {HERE}" in told
    assert f"./inv start mine --source {HERE}" in told
    assert ranges(stage) == [OFFICE]


def test_addresses_that_are_asked_for_take_the_place_of_all_others(stage: Stage) -> None:
    change(stage, sourceRanges=["0.0.0.0/0"])
    assert stage.connect().admit("mine", "203.0.113.9")
    assert ranges(stage) == ["203.0.113.9/32"]


def test_source_of_the_settings_is_not_taken_for_the_address_of_this_computer(stage: Stage) -> None:
    change(stage, sourceRanges=[BEFORE])
    assert at(stage, source="203.0.113.7").admit("mine") == ""
    assert ranges(stage) == [BEFORE]


@pytest.mark.parametrize(
    "fields",
    [
        {"allowed": [{"IPProtocol": "tcp", "ports": ["2222"]}]},
        {"disabled": True},
        {"targetTags": ["another"]},
        {"priority": 65000},
        {"sourceTags": ["friends"]},
        {"direction": "EGRESS"},
        {"network": "https://www.googleapis.com/compute/v1/projects/demo/global/networks/default"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_rule_that_somebody_has_changed_is_corrected_and_that_is_said(stage: Stage, fields: dict[str, Any]) -> None:
    before = {key: stage.server.cloud.store.get(SSH).get(key) for key in fields}
    change(stage, **fields)
    told = stage.connect().admit("mine")
    assert told == "firewall of machine 'mine': corrected rule 'bakehouse-mine-ssh', which had been changed"
    assert {key: stage.server.cloud.store.get(SSH).get(key) for key in fields} == before
    assert stage.server.is_open("mine", 22, "127.0.0.1")


def test_rule_that_is_missing_is_made_anew_and_goes_with_its_machine(stage: Stage) -> None:
    stage.server.cloud.store.remove(SSH)
    cloud = stage.connect()
    assert "created missing rule 'bakehouse-mine-ssh'" in cloud.admit("mine")
    assert stage.server.is_open("mine", 22, "127.0.0.1")
    settle(cloud, cloud.delete(Kind.MACHINE, "mine"))
    assert stage.left() == []


def test_firewall_that_may_not_be_changed_keeps_no_machine_from_its_start(stage: Stage) -> None:
    change(stage, sourceRanges=[BEFORE])
    stage.server.fault(PATCH, error=forbidden("compute.firewalls.update", "projects/demo"))
    told: list[str] = []
    assert power.start(stage.connect(), "mine", tell=told.append).state == "running"
    assert told[0].startswith("machine 'mine': could not check its firewall: ")


def test_machine_in_a_network_of_others_stays_shut_to_everybody_else(new_stage: NewStage) -> None:
    stage = new_stage("launch")
    stage.play(
        lambda _cloud, home: launch_tiny(at(stage, network="default"), home, options=LaunchOptions(recipe="tiny", name="mine"))
    )
    assert stage.error is None
    change(stage, sourceRanges=[BEFORE])
    shut = "projects/demo/global/firewalls/bakehouse-mine-shut"
    stage.server.cloud.store.get(shut)["disabled"] = True
    assert "bakehouse-mine-shut" in at(stage, network="default").admit("mine")
    assert stage.server.is_open("mine", 22, "127.0.0.1")
    assert not stage.server.is_open("mine", 22, "198.51.100.7")


@pytest.mark.parametrize("again", [{"source": "203.0.113.9"}, {"source": "203.0.113.0/24"}])
def test_launch_that_asks_again_from_another_address_is_reached_from_there_alone(
    new_stage: NewStage, again: dict[str, str]
) -> None:
    stage = new_stage("launch")
    spec: BootSpec = replace(SPEC, name="mine", disk_gb=20)
    settle(at(stage, source="198.51.100.7"), at(stage, source="198.51.100.7").boot(spec))
    cloud = at(stage, **again)
    settle(cloud, cloud.boot(spec))
    assert stage.server.is_open("mine", 22, "203.0.113.9")
    assert not stage.server.is_open("mine", 22, "198.51.100.7")
