"""The verbs for bakes: exit codes, and output for users and programs."""

from __future__ import annotations

import errno
import io
import json
import os
import pty
from pathlib import Path

import pytest

import clouds
from bakery.cli import check_launch
from bakery.record import Record, open_record
from clouds.driver import Wishes
from clouds.errors import InvalidError, UsageError
from clouds.home import home
from launcher.command import runner
from launcher.command.terminal import Terminal
from tests.bakery.test_plan import LargeBases
from tests.cli.verbs import VERBS, run
from tests.fake_cloud import FakeCloud, interrupt
from tests.fake_layers import LayeredCloud
from tests.fake_world import World
from tests.launcher.command.test_machine_options import values as launch_values


def test_recipes_are_listed_with_their_descriptions() -> None:
    found = {recipe["name"]: recipe["description"] for recipe in json.loads(run("recipes", json=True)[1])}
    assert {"jupyter", "minimal"} <= set(found)
    assert all(found.values())
    assert run("recipes")[1].splitlines()[0].split() == ["NAME", "DESCRIPTION"]


def test_render_prints_the_script() -> None:
    code, stdout, _ = run("render", recipe="minimal")
    assert code == 0
    assert stdout.startswith("#!/bin/bash")
    assert "seal" in stdout


def test_plan_prints_what_would_happen_and_does_nothing(cloud: FakeCloud, world: World) -> None:
    code, stdout, _ = run("plan", recipe="minimal")
    assert code == 0
    assert stdout.startswith("bake: would run")
    assert world.inventory() == []


def test_a_bake_ends_with_its_result_on_stdout(cloud: FakeCloud) -> None:
    code, stdout, stderr = run("bake", recipe="minimal")
    assert code == 0, stderr
    assert stdout.startswith("minimal-")
    assert "seal" in stderr


def test_a_bake_for_programs_ends_with_its_result_as_json(cloud: FakeCloud) -> None:
    code, stdout, stderr = run("bake", recipe="minimal", json=True)
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert (code, stderr) == (0, "")
    assert {line["event"] for line in lines[:-1]} >= {"note", "step-started", "step-ended"}
    assert lines[-1].keys() == {"image", "recipe", "version", "cloud", "seconds", "reused"}


def test_second_bake_of_the_same_reports_that_there_is_nothing_to_do(cloud: FakeCloud) -> None:
    run("bake", recipe="minimal")
    code, stdout, _ = run("bake", recipe="minimal")
    assert code == 0
    assert "minimal-0.1.0-1 is up to date" in stdout


@pytest.mark.parametrize("operation", ["snapshot", "console"])
def test_interrupted_bake_is_nowhere_said_to_have_failed(cloud: FakeCloud, operation: str) -> None:
    cloud.fault(operation, error=interrupt)
    code, _, stderr = run("bake", recipe="minimal")
    assert code == 130
    assert "failed" not in stderr
    assert ("snapshot interrupted after " in stderr) == (operation == "snapshot")
    assert stderr.splitlines()[-1] == "error: interrupted (SIGINT)"
    [record] = (home() / "bakes").glob("*/result.json")
    assert json.loads(record.read_text())["error"] == "interrupted (SIGINT)"


def test_a_bake_asks_for_the_machine_type_of_its_builder_where_there_are_such(cloud: FakeCloud, world: World) -> None:
    code, _, stderr = run("bake", recipe="minimal", type="big-8")
    assert (code, cloud.calls) == (2, [])
    assert "--type: not supported by cloud 'fake'" in stderr
    types: list[str] = []
    cloud.grants = frozenset({"machine_type"})
    cloud.fault("boot", when="after", error=lambda: types.append([*world.machines.values()][-1].spec.wishes.machine_type))
    assert run("bake", recipe="minimal", type="big-8")[0] == 0
    assert types == ["big-8"]


def test_option_that_the_cloud_finds_to_be_wrong_is_reported_before_the_bake_starts(
    cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_options(wishes: Wishes) -> None:
        raise InvalidError(f"unknown machine type {wishes.machine_type!r}", next_step="Did you mean big-8?")

    cloud.grants = frozenset({"machine_type"})
    cloud.check_options = check_options  # type: ignore[attr-defined]
    assert run("bake", recipe="minimal", type="bgi-8") == (
        1,
        "",
        "error: unknown machine type 'bgi-8'\nnext: Did you mean big-8?\n",
    )


def test_a_bake_uses_spot_capacity_for_its_builder_where_the_cloud_has_it(cloud: FakeCloud, world: World) -> None:
    code, _, stderr = run("bake", recipe="minimal", spot=True)
    assert (code, cloud.calls) == (2, [])
    assert "--spot: not supported by cloud 'fake'" in stderr
    assert "--on-preempt" not in stderr
    spot: list[bool] = []
    cloud.grants = frozenset({"spot"})
    cloud.fault("boot", when="after", error=lambda: spot.append([*world.machines.values()][-1].spec.wishes.spot))
    assert run("bake", recipe="minimal", spot=True)[0] == 0
    assert spot == [True]


def test_no_machine_of_a_bake_has_a_public_address_where_none_is_wanted(cloud: FakeCloud, world: World) -> None:
    code, _, stderr = run("bake", recipe="minimal", no_public_ip=True)
    assert (code, cloud.calls) == (2, [])
    assert "--no-public-ip: not supported by cloud 'fake'" in stderr
    asked: list[bool] = []
    cloud.grants = frozenset({"no_public_ip"})
    cloud.fault("boot", when="after", nth=None, error=lambda: asked.append([*world.machines.values()][-1].spec.wishes.no_public_ip))
    assert run("bake", recipe="minimal", no_public_ip=True)[0] == 0
    assert asked == [True, True]  # the builder, and the machine that tests the image


def test_launch_behind_a_bake_needs_the_disk_of_the_base(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: LargeBases(world))
    with pytest.raises(UsageError, match="--disk-gb 5: smaller than the disk of image 'minimal'") as refused:
        check_launch(launch_values(recipe="minimal", disk_gb="5"))
    assert refused.value.next_step == "Give 8 or more."
    check_launch(launch_values(recipe="minimal", disk_gb="8"))
    assert run("bake", recipe="minimal")[0] == 0
    assert "next: Give 8 or more." in run("launch", recipe="minimal", disk_gb="5")[2]


def test_bake_repeats_the_requested_steps(cloud: FakeCloud) -> None:
    run("bake", recipe="minimal")
    for typed in ({"no_cache": True}, {"from_": "prepare"}):
        code, stdout, stderr = run("bake", recipe="minimal", **typed)
        assert (code, "is baked and tested" in stdout) == (0, True), stderr


def test_layers_go_with_a_flag_or_down_to_a_size(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: LayeredCloud(world))
    run("bake", recipe="minimal")
    for typed, left in (({}, 2), ({"layers_gb": "1"}, 1), ({"layers": True}, 0)):
        assert run("gc", yes=True, **typed)[0] == 0
        assert len(world.layers) == left


def test_flags_that_say_where_are_handed_to_the_cloud(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr(clouds, "connect", lambda name, settings=None: given.append((name, settings)) or fake)
    monkeypatch.setattr(clouds, "configured", list)
    run("launch", cloud="fake", zone="z", source="203.0.113.7/32")
    run("bake", recipe="minimal", region="r", service_account="me")
    assert given == [("fake", {"zone": "z", "source": "203.0.113.7/32"}), (None, {"region": "r", "service_account": "me"})]


@pytest.mark.parametrize("view", [{}, {"verbose": True}, {"json": True}])
@pytest.mark.usefixtures("cloud")
def test_bake_whose_reader_has_exited_makes_its_image(world: World, view: dict[str, bool]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    verb = VERBS["bake"]
    typed: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    with os.fdopen(writer, "w", encoding="utf-8") as both:
        code = runner.run(verb, {**typed, "recipe": "minimal", **view}, (), Terminal(io.StringIO(), both, both))
    assert code == 141
    assert [image.labels["state"] for image in world.images.values()] == ["stable"]
    assert not world.machines


@pytest.mark.usefixtures("cloud")
def test_live_view_whose_reader_has_exited_stops_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    os.close(reader)  # the terminal has been closed: each write fails with EIO
    verb = VERBS["bake"]
    typed: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    with os.fdopen(writer, "w", encoding="utf-8") as terminal:
        code = runner.run(verb, {**typed, "recipe": "minimal"}, (), Terminal(io.StringIO(), io.StringIO(), terminal))
    assert code == 1
    assert [image.labels["state"] for image in world.images.values()] == ["stable"]


@pytest.mark.usefixtures("cloud")
@pytest.mark.parametrize("file", ["console.log", "steps.log", "tests.log"])
def test_disk_that_is_full_when_a_bake_is_recorded_is_an_error_with_a_hint(
    world: World, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    def open_on_a_full_disk(home: Path, bake_id: str) -> Record:
        record = open_record(home, bake_id)
        (record.folder / file).symlink_to("/dev/full")
        return record

    monkeypatch.setattr("bakery.bake.open_record", open_on_a_full_disk)
    code, stdout, stderr = run("bake", recipe="minimal")
    assert (code, stdout) == (1, "")
    *_, cause, step = stderr.splitlines()
    assert cause.startswith("error: /")
    assert cause.endswith(f"/{file}: {os.strerror(errno.ENOSPC)}")
    assert step.startswith("next: Free some space")
    assert not world.machines
    assert not world.images
