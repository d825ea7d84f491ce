"""What a launch asks Google Cloud for, read from the server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import Launch
from clouds.driver import End, Kind, Wishes
from clouds.errors import ConflictError, NotFoundError
from clouds.gcp.places import places
from clouds.ledger import Ledger
from launcher.addresses import delete_address, find_address
from launcher.launch import LaunchOptions, launch
from launcher.machines import delete
from tests.clouds.gcp.stage import Cloud, NewStage, Stage, tiny

CALLER, STRANGER = "127.0.0.1", "198.51.100.9"


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give a cloud with an image."""
    return new_stage("launch")


def launched(stage: Stage, cloud: Cloud | None = None, *, name: str = "mine", **wishes: Any) -> dict[str, Any]:
    """Launch a machine and return its instance."""
    options = LaunchOptions(recipe="tiny", name=name, wishes=Wishes(**wishes))
    launch(cloud or stage.connect(), Ledger(stage.home / "ledger.sqlite3"), options)
    return dict(stage.server.instance(name))


def end(stage: Stage, name: str = "mine") -> None:
    delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), name)


def test_only_the_caller_reaches_a_machine_and_only_by_ssh(stage: Stage) -> None:
    launched(stage)
    assert stage.server.is_open("mine", 22, CALLER)
    assert not stage.server.is_open("mine", 22, STRANGER)
    assert not stage.server.is_open("mine", 8888, CALLER)


def test_in_the_default_network_which_admits_the_world_only_the_caller_reaches_it(stage: Stage) -> None:
    cloud = stage.connect()
    cloud._machines.places = places({"project": "demo", "network": "default"})
    launched(stage, cloud)
    assert stage.server.is_open("mine", 22, CALLER)
    assert not stage.server.is_open("mine", 22, STRANGER)


def test_a_deleted_machine_leaves_neither_disk_nor_rule(stage: Stage) -> None:
    launched(stage)
    end(stage)
    assert stage.left() == []


def test_spot_capacity_is_asked_for_with_what_becomes_of_the_machine(stage: Stage) -> None:
    scheduling = launched(stage, spot=True, on_preempt=End.DELETE)["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "DELETE")


def test_a_lifetime_is_enforced_by_the_cloud(stage: Stage) -> None:
    scheduling = launched(stage)["scheduling"]
    assert 0 < int(scheduling["maxRunDuration"]["seconds"]) <= 25 * 3600
    assert scheduling["instanceTerminationAction"] == "STOP"


def test_a_machine_without_a_public_address_has_none(stage: Stage) -> None:
    [interface] = launched(stage, no_public_ip=True)["networkInterfaces"]
    assert "accessConfigs" not in interface


def test_the_disk_is_of_the_type_that_was_asked_for(stage: Stage) -> None:
    launched(stage, disk_type="pd-ssd")
    assert stage.server.get("zones/us-central1-a/disks/mine")["type"].endswith("/pd-ssd")


def nat_ip(instance: dict[str, Any]) -> str:
    return str(instance["networkInterfaces"][0]["accessConfigs"][0]["natIP"])


def test_a_static_address_is_reserved_once_and_kept_between_launches(stage: Stage) -> None:
    first = nat_ip(launched(stage, static_ip="front"))
    end(stage)
    assert nat_ip(launched(stage, static_ip="front")) == first
    assert stage.server.count("compute.addresses.insert") == 1


def test_a_static_address_in_use_is_told_and_nothing_is_left(stage: Stage) -> None:
    launched(stage, static_ip="front")
    with pytest.raises(ConflictError, match="in use by 'mine'"):
        launched(stage, name="second", static_ip="front")
    assert stage.left() == []


def test_a_reserved_address_is_listed_and_can_be_given_back(stage: Stage) -> None:
    launched(stage, static_ip="front")
    cloud = stage.connect()
    with pytest.raises(ConflictError, match="address 'front' is in use"):
        find_address(cloud, "front")
    end(stage)
    assert [found.name for found in cloud.owned({"project": "bakehouse"}, {Kind.ADDRESS})] == ["front"]
    delete_address(cloud, Ledger(stage.home / "ledger.sqlite3"), find_address(cloud, "front"))
    assert not any(line.startswith("addresses") for line in stage.server.inventory())


def test_a_service_account_is_given_only_where_it_is_set(stage: Stage) -> None:
    assert launched(stage).get("serviceAccounts", []) == []


def test_what_is_told_to_a_machine_holds_no_password(stage: Stage) -> None:
    told = str(launched(stage)["metadata"])
    assert "AUTHORIZED_KEY" in told
    assert "password" not in told.lower().replace("password_hash=''", "")


def test_an_image_that_its_owner_has_put_out_of_use_is_neither_launched_nor_taken_for_a_bake(stage: Stage) -> None:
    images = stage.server.cloud.store.things
    [image] = [thing for path, thing in images.items() if "/demo/global/images/" in path]
    image["deprecated"] = {"state": "OBSOLETE"}
    with pytest.raises(NotFoundError, match="no stable image on gcp"):
        launched(stage)
    stage.bake()
    assert stage.error is None
    assert launched(stage)["labels"]["version"].endswith("-2")


def test_defaults_of_a_recipe_travel_with_its_image(new_stage: NewStage) -> None:
    def bake_and_launch(cloud: Cloud, home: Path) -> None:
        recipe = replace(tiny(home, silence_min=2), launch=Launch(spot=True, disk_gb=200, lifetime_h=0.5))
        bake(cloud, recipe, BakeOptions(), home=home)
        launch(cloud, Ledger(home / "ledger.sqlite3"), LaunchOptions(recipe="tiny", name="mine"))

    stage = new_stage()
    stage.play(bake_and_launch)
    assert stage.error is None
    made: list[Any] = [call.body for call in stage.server.calls if call.method == "compute.instances.insert"]
    assert [one["scheduling"].get("provisioningModel", "STANDARD") for one in made] == ["STANDARD", "STANDARD", "SPOT"]
    assert made[-1]["disks"][0]["initializeParams"]["diskSizeGb"] == "200"
