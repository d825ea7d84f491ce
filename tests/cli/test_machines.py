"""The verbs for machines and images: exit codes, and output for users and programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import clouds
from bakery.recipe.recipe import available
from clouds.driver import Kind, State
from clouds.errors import UsageError
from clouds.home import home
from launcher.access import tunnel
from launcher.command.terminal import Terminal
from tests import fake_services
from tests.cli.verbs import run
from tests.dead import dead_partial
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image, put_memory


def test_launch_prints_url_and_password(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    code, stdout, _ = run("launch", name="one")
    assert code == 0
    assert "one is running jupyter-1.4.0-7" in stdout
    assert "url       http://127.0.0.1:" in stdout
    assert "password  " in stdout


def test_launch_with_tls_prints_the_fingerprint_too(far: RemoteCloud) -> None:
    code, stdout, stderr = run("launch", name="two", https=True, port="8443")
    assert code == 0, stderr
    assert "  url       https://127.0.0.1:" in stdout
    assert f"  sha256    {fake_services.certificate().fingerprint}\n" in stdout
    assert "continue only if it shows the SHA-256 above" in stderr


def test_cold_launch_boots_although_the_image_has_a_memory(
    keeping: MemoryCloud, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name, _given=None: keeping)
    put_memory(world, put_image(world, "jupyter", "1.4.0-7"))
    assert [run("launch", name="one")[0], run("launch", name="two", cold=True)[0]] == [0, 0]
    assert [call for call in keeping.calls if call in ("restore one", "boot one", "restore two", "boot two")] == [
        "restore one",
        "boot two",
    ]


def test_launch_for_programs_is_one_object(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    code, stdout, _ = run("launch", json=True)
    assert code == 0
    assert json.loads(stdout).keys() == {"name", "url", "password", "image", "cloud", "seconds"}


def test_launch_without_an_image_has_a_hint_to_bake_one(cloud: FakeCloud) -> None:
    code, _, stderr = run("launch")
    assert code == 1
    assert "./inv bake --recipe jupyter" in stderr


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("jupiter", "no images of 'jupiter'. Did you mean jupyter?\n"),
        ("minimal", "no images of 'minimal'; to bake one: ./inv bake --recipe minimal\n"),
        (
            "r",
            f"no images of 'r'. Choose one of {', '.join(available())}, or bake one of your own: ./inv bake --recipe PATH.toml\n",
        ),
    ],
)
def test_images_of_a_recipe_without_any_says_so(cloud: FakeCloud, world: World, recipe: str, told: str) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    assert run("images", recipe=recipe) == (0, "", told)


def test_image_that_does_not_exist_is_reported_before_the_question(cloud: FakeCloud) -> None:
    code, _, stderr = run("delete-image", image="nope")
    assert (code, stderr.splitlines()[0]) == (1, f"error: image 'nope' not found on {cloud.name}")


def test_machines_shows_the_url_and_remaining_time_of_each(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launched = launch_one(cloud)
    lines = run("machines")[1].splitlines()
    assert lines[0].split() == ["NAME", "STATE", "CLOUD", "IMAGE", "LEFT", "URL"]
    assert lines[1].split() == ["one", "running", cloud.name, "jupyter-1.4.0-7", "24", "h", "00", "min", launched.url]


def test_machines_and_images_for_programs_are_lists_of_objects(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launched = launch_one(cloud)
    (machine,) = json.loads(run("machines", json=True)[1])
    (image,) = json.loads(run("images", json=True)[1])
    assert machine.keys() == {"name", "state", "cloud", "url", "labels"}
    assert image.keys() == {"name", "state", "cloud", "version", "memory_bytes", "labels"}
    assert str(launched.password) not in json.dumps(machine)


@pytest.mark.parametrize("verb", ["machines", "images"])
def test_an_empty_list_is_empty_for_programs_and_a_hint_for_people(cloud: FakeCloud, verb: str) -> None:
    assert json.loads(run(verb, json=True)[1]) == []
    assert run(verb)[1] == ""
    assert "./inv" in run(verb)[2]


def test_images_can_be_of_one_recipe(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    put_image(world, "minimal", "1.4.0-2")
    assert [image["name"] for image in json.loads(run("images", recipe="minimal", json=True)[1])] == ["minimal-1.4.0-2"]


def test_recipe_may_be_given_by_the_path_of_its_file_wherever_one_is_given(cloud: FakeCloud, world: World, tmp_path: Path) -> None:
    path = tmp_path / "my lab/lab.toml"
    path.parent.mkdir()
    path.write_text('name = "lab"\n')
    bake = f"./inv bake --recipe '{path}'"
    code, _, stderr = run("launch", recipe=str(path))
    assert code == 1
    assert f"recipe 'lab' has no stable image on {cloud.name}" in stderr
    assert bake in stderr
    assert run("images", recipe=str(path)) == (0, "", f"no images of 'lab'; to bake one: {bake}\n")
    put_image(world, "lab", "1.4.0-2")
    put_image(world, "jupyter", "1.4.0-7")
    assert [image["name"] for image in json.loads(run("images", recipe=str(path), json=True)[1])] == ["lab-1.4.0-2"]
    assert json.loads(run("launch", recipe=str(path), json=True)[1])["image"] == "lab-1.4.0-2"


@pytest.mark.parametrize("verb", ["launch", "images"])
@pytest.mark.parametrize("name", ["nosuch.toml", "x" * 300, ""])
def test_path_without_a_recipe_is_an_error_of_usage(cloud: FakeCloud, tmp_path: Path, verb: str, name: str) -> None:
    code, _, stderr = run(verb, recipe=f"{tmp_path}/{name}")
    assert code == 2
    assert f"{tmp_path}/{name}: no such file" in stderr


def test_delete_without_a_terminal_wants_yes_and_deletes_nothing(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    code, _, stderr = run("delete", name="one")
    assert (code, "one" in world.machines) == (2, True)
    assert "--yes" in stderr


def test_delete_with_yes_deletes(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    assert run("delete", name="one", yes=True)[0] == 0
    assert world.machines == {}


def test_delete_of_a_missing_machine_fails_without_asking(cloud: FakeCloud) -> None:
    code, _, stderr = run("delete", name="nobody")
    assert code == 1
    assert "machine 'nobody' not found on fake" in stderr


def test_delete_image_with_yes_deletes(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    assert run("delete-image", image="jupyter-1.4.0-7", yes=True)[0] == 0
    assert world.images == {}


def test_stop_and_start_bring_the_url_back(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    assert run("stop", name="one")[0] == 0
    code, stdout, _ = run("start", name="one")
    assert code == 0
    assert stdout.startswith("  url       http://127.0.0.1:")  # as launch shows it


def test_stop_reports_what_is_still_billed(far: RemoteCloud) -> None:
    told = "machine 'one' is stopped; its disk is kept. Still billed: its disk. To start it again: ./inv start one\n"
    assert run("stop", name="one") == (0, "", told)


def test_stop_reports_that_a_machine_is_suspended(far: RemoteCloud) -> None:
    code, _, stderr = run("stop", name="one", suspend=True)
    assert code == 0
    assert "its disk and memory are kept. Still billed: its disk, its saved memory." in stderr
    assert "suspended" in run("machines")[1]


def test_stop_of_a_suspended_machine_reports_that_its_memory_is_discarded(far: RemoteCloud) -> None:
    run("stop", name="one", suspend=True)
    code, _, stderr = run("stop", name="one", yes=True)
    assert code == 0
    assert "is stopped; its disk is kept, its saved memory and everything that ran in it is discarded" in stderr
    again = run("stop", name="one")[2]
    assert "machine 'one' is already stopped; its disk is kept." in again
    assert "discarded" not in again


def test_stop_asks_before_it_discards_the_memory_of_a_suspended_machine(far: RemoteCloud) -> None:
    run("stop", name="one", suspend=True)
    code, _, stderr = run("stop", name="one")
    assert (code, stderr) == (
        2,
        "machine 'one' is suspended: its saved memory, and everything that runs in it, would be discarded\n"
        "error: no terminal to ask on: Stop machine 'one'?\nnext: Confirm with --yes.\n",
    )
    assert "suspended" in run("machines")[1]
    assert run("stop", name="one", suspend=True)[0] == 0


def test_memory_that_is_kept_here_costs_nothing(
    keeping: MemoryCloud, far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name, _given=None: keeping)
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(keeping)
    told = "machine 'one' is suspended; its disk and memory are kept. To start it again: ./inv start one\n"
    assert run("stop", name="one", suspend=True) == (0, "", told)


def test_stop_reports_no_costs_where_there_are_none(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    assert "costs" not in run("stop", name="one")[2]


def test_open_prints_the_url(cloud: FakeCloud, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    put_image(world, "jupyter", "1.4.0-7")
    launched = launch_one(cloud)
    assert run("open", name="one")[1] == f"{launched.url}\n"


def test_log_prints_the_console(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    code, stdout, _ = run("log", id="one")
    assert code == 0
    assert "bakehouse[" in stdout
    error = "error: no log of a bake or machine 'two' found on fake\nnext: See: ./inv bakes, and: ./inv machines\n"
    assert run("log", id="two") == (1, "", error)


def test_machines_shows_the_command_for_a_notebook_that_needs_a_tunnel(far: RemoteCloud) -> None:
    assert "http://127.0.0.1:" in run("machines")[1]
    tunnel.close(far, "one")
    assert run("machines")[1].endswith("./inv open one\n")
    assert [machine["url"] for machine in json.loads(run("machines", json=True)[1])] == [None]


def test_gc_removes_the_tunnel_of_a_deleted_machine(far: RemoteCloud) -> None:
    far.world.machines.clear()
    assert run("gc")[0] == 0
    assert list((home() / "ssh/tunnels/faraway").glob("one.*")) == []


def test_broken_machine_and_image_are_listed_with_a_line_each(cloud: FakeCloud) -> None:
    put_image(cloud.world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    cloud.world.machines["one"].state = State.BROKEN
    code, stdout, stderr = run("machines")
    assert (code, stdout.splitlines()[1].split()[:2]) == (0, ["one", "broken"])
    assert f"machine 'one' on {cloud.name} is broken: its record cannot be read; to delete it: ./inv delete one" in stderr
    cloud.world.images["jupyter-1.4.0-7"].state = State.BROKEN
    code, stdout, stderr = run("images")
    assert (code, stdout.splitlines()[1].split()[:2]) == (0, ["jupyter-1.4.0-7", "broken"])
    assert "./inv delete-image jupyter-1.4.0-7" in stderr


def test_gc_removes_the_copies_of_a_killed_bake_and_keeps_its_logs(cloud: FakeCloud) -> None:
    bake = home() / "bakes" / "bake-killed"
    (bake / dead_partial("inspect")).mkdir(parents=True)
    (bake / "console.log").write_text("")
    assert run("gc")[0] == 0
    assert [path.name for path in bake.iterdir()] == ["console.log"]


def test_gc_reports_resources_that_have_changed_while_it_asked(cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(cloud.world, "jupyter", "1.4.0-7")
    launch_one(cloud)
    cloud.world.machines["one"].labels["expires"] = "1"
    monkeypatch.setattr(Terminal, "confirm", lambda *_, **__: cloud.label(Kind.MACHINE, "one", {"expires": "0"}))
    code, _, stderr = run("gc")
    assert (code, cloud.world.machines["one"].state) == (0, State.RUNNING)
    assert "machine 'one' has changed since it was listed; kept\nnothing to clean up" in stderr


def test_gc_with_nothing_to_do_reports_it(cloud: FakeCloud) -> None:
    code, _, stderr = run("gc")
    assert code == 0
    assert "nothing to clean up" in stderr


def test_a_cloud_is_named_once_in_the_line_about_its_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(name: str) -> FakeCloud:
        raise UsageError(f"{name}: no such profile")

    monkeypatch.setattr("clouds.configured", lambda: ["fake"])
    monkeypatch.setattr("clouds.connect", connect)
    assert run("machines", cloud="all")[2] == "fake: no such profile\n"


@pytest.mark.parametrize("verb", ["machines", "images", "gc"])
def test_all_regions_of_a_cloud_that_lists_them_anyway_are_refused(cloud: FakeCloud, verb: str) -> None:
    code, _, stderr = run(verb, region="all")
    assert (code, cloud.calls) == (2, [])
    assert "--region all: cloud 'fake' finds everything without it (leave it out)" in stderr
