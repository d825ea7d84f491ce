"""Verbs that use more than one cloud."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clouds
from clouds.driver import State
from clouds.errors import DeniedError
from clouds.names import client_labels
from launcher.command.tables import machine_row
from launcher.machines import MachineView
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image


@pytest.fixture
def two_clouds(fake: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeCloud, RemoteCloud]:
    """Let verbs use two configured clouds: `fake`, the default one, and `faraway`."""
    far = RemoteCloud(World(tmp_path / "far"))
    found: dict[str | None, FakeCloud] = {"fake": fake, "faraway": far, None: fake}
    monkeypatch.setattr(clouds, "connect", lambda name=None, _given=None: found[name])
    monkeypatch.setattr(clouds, "configured", lambda: ["fake", "faraway"])
    return fake, far


Two = tuple[FakeCloud, RemoteCloud]


def test_machines_and_images_of_all_clouds_are_one_list(two_clouds: Two, far_ssh: Path) -> None:
    for cloud in two_clouds:
        put_image(cloud.world, "minimal", "1.4.0-7", notebook="0")
        launch_one(cloud, f"on-{cloud.name}", recipe="minimal")
    for verb, one in (("machines", "on-"), ("images", "minimal-")):
        code, stdout, _ = run(verb, cloud="all", json=True)
        assert (code, [thing["cloud"] for thing in json.loads(stdout)]) == (0, ["fake", "faraway"])
        assert run(verb, cloud="all")[1].count(one) >= 2


@pytest.mark.parametrize(("verb", "remedy"), [("machines", "delete one"), ("images", "delete-image minimal-1.4.0-7")])
def test_broken_resource_on_one_of_all_clouds_is_deleted_there(two_clouds: Two, far_ssh: Path, verb: str, remedy: str) -> None:
    far = two_clouds[1]
    put_image(far.world, "minimal", "1.4.0-7", notebook="0")
    launch_one(far, recipe="minimal")
    far.world.machines["one"].state = far.world.images["minimal-1.4.0-7"].state = State.BROKEN
    assert f"to delete it: ./inv {remedy} --cloud faraway\n" in run(verb, cloud="all")[2]
    assert f"to delete it: ./inv {remedy} --cloud faraway\n" in run(verb, cloud="faraway")[2]


@pytest.mark.parametrize("verb", ["machines", "images"])
def test_failed_cloud_is_reported_and_the_others_are_listed(two_clouds: Two, verb: str) -> None:
    fake, far = two_clouds
    put_image(fake.world, "minimal", "1.4.0-7", notebook="0")
    launch_one(fake, recipe="minimal")
    far.fault("owned", error=DeniedError("no credentials", next_step="Log in."), nth=None)
    code, stdout, stderr = run(verb, cloud="all", json=True)
    assert (code, [thing["cloud"] for thing in json.loads(stdout)]) == (1, ["fake"])
    assert stderr == "faraway: no credentials\n  next: Log in.\n"


def test_a_single_cloud_that_fails_is_an_error(two_clouds: Two) -> None:
    two_clouds[1].fault("owned", error=DeniedError("no credentials"))
    code, _, stderr = run("machines", cloud="faraway")
    assert (code, stderr) == (1, "error: no credentials\n")


def test_gc_of_all_clouds_asks_once_and_continues_after_a_failed_one(two_clouds: Two) -> None:
    for cloud in two_clouds:
        put_image(cloud.world, "minimal", "1.4.0-7", notebook="0")
        cloud.world.images["minimal-1.4.0-7"].labels.update(client_labels() | {"role": "image-in-progress", "client-start": "1"})
    assert run("gc", cloud="all")[0] == 2  # nobody to ask
    two_clouds[0].fault("delete", error=DeniedError("not allowed"))
    code, _, stderr = run("gc", cloud="all", yes=True)
    assert code == 1
    assert "faraway: delete image 'minimal-1.4.0-7'" in stderr
    assert "fake: could not remove" in stderr
    assert (len(two_clouds[0].world.images), len(two_clouds[1].world.images)) == (1, 0)


def test_launch_without_an_image_names_the_cloud_that_has_one_and_starts_nothing_there(two_clouds: Two) -> None:
    fake, far = two_clouds
    put_image(far.world, "jupyter", "1.4.0-7")
    code, _, stderr = run("launch")
    assert code == 1
    assert "next: Found on faraway: ./inv launch --recipe jupyter --cloud faraway\n      Bake one: " in stderr
    assert (fake.world.machines, far.world.machines) == ({}, {})
    assert {call.split()[0] for call in far.calls} == {"owned"}


def test_launch_of_a_version_names_the_cloud_that_has_it(two_clouds: Two) -> None:
    put_image(two_clouds[1].world, "jupyter", "1.4.0-7")
    assert "./inv launch --recipe jupyter --version 1.4.0-7 --cloud faraway" in run("launch", version="1.4.0-7")[2]
    assert "faraway" not in run("launch", version="1.4.0-8")[2]


@pytest.mark.parametrize("error", [DeniedError("no credentials"), ValueError("odd")])
def test_error_of_another_cloud_is_not_shown(two_clouds: Two, error: Exception) -> None:
    two_clouds[1].fault("owned", error=error)
    code, _, stderr = run("launch")
    assert code == 1
    assert "no stable image on fake" in stderr
    assert "faraway" not in stderr


def test_hint_for_one_of_several_clouds_names_that_cloud(two_clouds: Two) -> None:
    two_clouds[1].fault("owned", error=DeniedError("no", next_step="Log in, then: ./inv machines"), nth=None)
    assert run("machines", cloud="all")[2] == "faraway: no\n  next: Log in, then: ./inv machines --cloud faraway\n"


@pytest.mark.parametrize(("names_cloud", "told"), [(True, "./inv open lab --cloud faraway"), (False, "./inv open lab")])
def test_way_to_a_notebook_names_its_cloud_where_the_command_did(names_cloud: bool, told: str) -> None:
    labels = {"notebook": "1", "role": "machine"}
    machine = MachineView(name="lab", state="running", cloud="faraway", url=None, image="i", left_s=None, labels=labels)
    assert machine_row(machine, names_cloud=names_cloud)["url"] == told


def test_gc_of_all_clouds_names_the_one_that_could_not_be_reached(two_clouds: Two) -> None:
    far = two_clouds[1]
    put_image(far.world, "minimal", "1.4.0-7", notebook="0")
    far.unreachable = {"near-1"}
    assert run("gc", cloud="all", yes=True)[2].endswith("next: Try again in a few minutes: ./inv gc --cloud faraway\n")
