"""Both front ends, `./inv` and `python -m launcher`: the same verbs and flags, exit codes, and what users and programs read."""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

import bakery.cli
import clouds
import launcher.cli
import tasks
from clouds.errors import DeniedError
from clouds.home import home
from clouds.names import client_labels
from launcher import front, tunnel
from launcher.__main__ import parser
from launcher.flags import Verb
from launcher.terminal import Terminal
from tests import fake_services
from tests.fake_cloud import FakeCloud, World
from tests.fake_layers import LayeredCloud
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud
from tests.launcher.given import launch_one, put_image, put_memory

ROOT = Path(__file__).parents[1]
VERBS = {verb.name: verb for verb in (*launcher.cli.VERBS, *bakery.cli.VERBS, *tasks.VERBS)}


def invoke(*words: str) -> subprocess.CompletedProcess[str]:
    """Run what `./inv` runs."""
    command = [sys.executable, "-P", "-m", "invoke", "--search-root", ROOT, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=60, check=False)


def launcher_alone(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "launcher", *words], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )


@pytest.fixture
def cloud(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Let verbs work in the fake cloud."""
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    return fake


@pytest.fixture
def far(remote: RemoteCloud, far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> RemoteCloud:
    """Let verbs work in a cloud far away, where a machine `one` runs."""
    monkeypatch.setattr(clouds, "connect", lambda _name, _given=None: remote)
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(remote, "one")
    return remote


def run(name: str, /, *command: str, stdin: str = "", **typed: str | bool) -> tuple[int, str, str]:
    """Run a verb as a front end would; return its exit code, stdout and stderr."""
    verb = VERBS[name]
    nothing: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    terminal = Terminal(io.StringIO(stdin), io.StringIO(), io.StringIO())
    code = front.run(verb, nothing | typed, command, terminal)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()  # type: ignore[attr-defined]


def subparsers() -> dict[str, argparse.ArgumentParser]:
    (found,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    return dict(found.choices)


@pytest.mark.parametrize("verb", launcher.cli.VERBS, ids=lambda verb: verb.name)
def test_both_front_ends_have_the_same_flags_with_the_same_help(verb: Verb) -> None:
    of_invoke = {argument.names[0]: argument.help for argument in tasks.ns[verb.name].get_arguments()}
    actions = [action for action in subparsers()[verb.name]._actions if action.dest != "help"]
    assert {(action.option_strings or [action.dest])[0].removeprefix("--"): action.help for action in actions} == of_invoke


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda verb: verb.name)
def test_no_task_has_short_flags_or_typed_defaults(verb: Verb) -> None:
    for argument in tasks.ns[verb.name].get_arguments():
        assert len(argument.names) == 1
        assert argument.kind in (str, bool)


def test_the_launcher_alone_has_exactly_its_own_verbs() -> None:
    assert set(subparsers()) == {verb.name for verb in launcher.cli.VERBS}


def test_list_shows_every_verb_and_loads_nothing_heavy() -> None:
    script = (
        "import sys; sys.argv = ['inv', '--search-root', sys.argv[1], '--list']\n"
        "try:\n    from invoke.main import program; program.run()\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script, ROOT], capture_output=True, text=True, cwd="/", check=True)
    assert {line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line[2] != " "} == set(VERBS)
    heavy = {"pydantic", "jinja2", "rich", "qemu", "sqlite3", "packaging", "argon2", "clouds.local", "tomllib", "platformdirs"}
    assert heavy & set(done.stderr.split()) == set()


@pytest.mark.parametrize("words", [("bake", "--dry"), ("--dry", "bake"), ("bake", "--version"), ("launch", "-R")], ids=" ".join)
def test_flags_of_invoke_that_would_run_the_task_stop_with_a_hint_to_plan(words: tuple[str, ...]) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "./inv plan" in done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("launch", "--cpus", "two"), "error: --cpus: 'two' is not a whole number (write a number such as 2)"),
        (("launch", "--version", "1.4.0-7", "--lifetime-h", "-1"), "error: --lifetime-h: '-1' is not a number of hours"),
        (("launch", "--cloud", "nimbus"), "error: cloud 'nimbus': not known"),
        (("launch", "--cloud", "local", "--zone", "z"), "error: --zone: the cloud local has none (leave it out, or choose another"),
        (("bake", "--cloud", "local", "--type", "x", "--cpus", "2"), "error: --type: takes the place of --cpus and --memory-mb"),
        (("bake", "jupyter"), "Did you mean: ./inv bake --recipe jupyter"),
        (("lunch",), "Did you mean launch?"),
        (("launch", "--recip", "x"), "Did you mean --recipe"),
        (("delete",), "'name'"),
        (("stop", "one", "--", "now"), "stop: takes no command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_read_exits_with_2_and_says_what_to_do(words: tuple[str, ...], told: str) -> None:
    done = invoke(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [("launch", "--cpus", "two"), ("launch", "--nonsense"), ("delete",), ("lunch",), ("stop", "one", "--", "now")],
    ids=" ".join,
)
def test_the_launcher_alone_exits_with_2_too(words: tuple[str, ...]) -> None:
    done = launcher_alone(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_the_first_line_of_the_help_of_bake_says_how_to_choose_a_recipe() -> None:
    assert "--recipe NAME" in invoke("bake", "--help").stdout.split("Docstring:")[1].split("\n")[1]


def test_the_words_behind_the_dashes_arrive_as_they_were_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.program, "argv", ["inv", "ssh", "one", "--", "echo", "a  b"])
    assert tasks._command() == ["echo", "a  b"]


def test_a_bake_that_fails_ends_with_json_on_stdout() -> None:
    done = invoke("bake", "--recipe", "no-such-recipe", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout.splitlines()[-1]).keys() == {"error", "step", "log", "next"}


def test_recipes_are_listed_with_what_they_are() -> None:
    found = {recipe["name"]: recipe["description"] for recipe in json.loads(run("recipes", json=True)[1])}
    assert {"jupyter", "minimal"} <= set(found)
    assert all(found.values())
    assert run("recipes")[1].splitlines()[0].split() == ["NAME", "DESCRIPTION"]


def test_render_prints_the_script() -> None:
    code, stdout, _ = run("render", recipe="minimal")
    assert code == 0
    assert stdout.startswith("#!/bin/bash")
    assert "seal" in stdout


def test_plan_says_what_would_happen_and_does_nothing(cloud: FakeCloud, world: World) -> None:
    code, stdout, _ = run("plan", recipe="minimal")
    assert code == 0
    assert stdout.startswith("bake: it would run")
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


def test_a_second_bake_of_the_same_says_that_there_is_nothing_to_do(cloud: FakeCloud) -> None:
    run("bake", recipe="minimal")
    code, stdout, _ = run("bake", recipe="minimal")
    assert code == 0
    assert "nothing has changed" in stdout


def test_a_bake_asks_for_the_machine_type_of_its_builder_where_there_are_such(cloud: FakeCloud, world: World) -> None:
    code, _, stderr = run("bake", recipe="minimal", type="big-8")
    assert (code, cloud.calls) == (2, [])
    assert "--type: the cloud fake has no machine types" in stderr
    types: list[str] = []
    cloud.grants = frozenset({"machine_type"})
    cloud.fault("boot", when="after", error=lambda: types.append([*world.machines.values()][-1].spec.wishes.machine_type))
    assert run("bake", recipe="minimal", type="big-8")[0] == 0
    assert types == ["big-8"]


def test_a_bake_can_be_told_what_to_repeat(cloud: FakeCloud) -> None:
    run("bake", recipe="minimal")
    for typed in ({"no_cache": True}, {"from_": "prepare"}):
        code, stdout, stderr = run("bake", recipe="minimal", **typed)
        assert (code, "is baked and tested" in stdout) == (0, True), stderr


def test_a_step_to_begin_with_is_typed_as_from() -> None:
    found = {name: argument.attr_name for argument in tasks.ns["bake"].get_arguments() for name in argument.names}
    assert (found["from"], found["no-cache"]) == ("from_", "no_cache")


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


def test_launch_prints_url_and_password(cloud: FakeCloud, world: World) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    code, stdout, _ = run("launch", name="one")
    assert code == 0
    assert "one runs jupyter-1.4.0-7" in stdout
    assert "url       http://127.0.0.1:" in stdout
    assert "password  " in stdout


def test_launch_with_tls_prints_the_fingerprint_too(far: RemoteCloud) -> None:
    code, stdout, stderr = run("launch", name="two", https=True, port="8443")
    assert code == 0, stderr
    assert "  url       https://127.0.0.1:" in stdout
    assert f"  sha256    {fake_services.certificate().fingerprint}\n" in stdout
    assert "go on when the SHA-256 that it shows is this one" in stderr


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


def test_launch_without_an_image_says_how_to_bake_one(cloud: FakeCloud) -> None:
    code, _, stderr = run("launch")
    assert code == 1
    assert "./inv bake --recipe jupyter" in stderr


def test_machines_shows_where_each_answers_and_what_is_left(cloud: FakeCloud, world: World) -> None:
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


def test_delete_of_what_is_not_there_fails_without_asking(cloud: FakeCloud) -> None:
    code, _, stderr = run("delete", name="nobody")
    assert code == 1
    assert "there is none" in stderr


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
    assert stdout.startswith("http://127.0.0.1:")


def test_stop_says_what_a_machine_that_is_off_still_costs(far: RemoteCloud) -> None:
    told = "one is off; its disk stays. What still costs: its disk. To start it again: ./inv start one\n"
    assert run("stop", name="one") == (0, "", told)


def test_stop_says_so_when_a_machine_is_suspended(far: RemoteCloud) -> None:
    code, _, stderr = run("stop", name="one", suspend=True)
    assert code == 0
    assert "its disk and its memory stay. What still costs: its disk, the memory that is kept." in stderr
    assert "suspended" in run("machines")[1]


def test_memory_that_is_kept_here_costs_nothing(
    keeping: MemoryCloud, far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clouds, "connect", lambda _name, _given=None: keeping)
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(keeping)
    told = "one is suspended; its disk and its memory stay. To start it again: ./inv start one\n"
    assert run("stop", name="one", suspend=True) == (0, "", told)


def test_stop_says_nothing_of_costs_where_there_are_none(cloud: FakeCloud, world: World) -> None:
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


def test_machines_says_how_to_open_a_notebook_that_takes_a_tunnel(far: RemoteCloud) -> None:
    assert "http://127.0.0.1:" in run("machines")[1]
    tunnel.close(far, "one")
    assert run("machines")[1].endswith("./inv open one\n")
    assert [machine["url"] for machine in json.loads(run("machines", json=True)[1])] == [None]


def test_gc_leaves_nothing_of_a_tunnel_to_a_machine_that_is_gone(far: RemoteCloud) -> None:
    far.world.machines.clear()
    assert run("gc")[0] == 0
    assert list((home() / "ssh/tunnels/faraway").glob("one.*")) == []


@pytest.fixture
def two_clouds(fake: FakeCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeCloud, RemoteCloud]:
    """Let verbs work in two clouds that are configured: `fake`, the default one, and `faraway`."""
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


@pytest.mark.parametrize("verb", ["machines", "images"])
def test_a_cloud_that_fails_is_told_and_the_others_are_still_listed(two_clouds: Two, verb: str) -> None:
    fake, far = two_clouds
    put_image(fake.world, "minimal", "1.4.0-7", notebook="0")
    launch_one(fake, recipe="minimal")
    far.fault("owned", error=DeniedError("no credentials", next_step="Log in."), nth=None)
    code, stdout, stderr = run(verb, cloud="all", json=True)
    assert (code, [thing["cloud"] for thing in json.loads(stdout)]) == (1, ["fake"])
    assert stderr == "faraway: no credentials (Log in.)\n"


def test_a_single_cloud_that_fails_is_an_error(two_clouds: Two) -> None:
    two_clouds[1].fault("owned", error=DeniedError("no credentials"))
    code, _, stderr = run("machines", cloud="faraway")
    assert (code, stderr) == (1, "error: no credentials\n")


def test_gc_of_all_clouds_asks_once_and_goes_on_past_one_that_fails(two_clouds: Two) -> None:
    for cloud in two_clouds:
        put_image(cloud.world, "minimal", "1.4.0-7", notebook="0")
        cloud.world.images["minimal-1.4.0-7"].labels.update(client_labels() | {"role": "image-in-progress", "client-start": "1"})
    assert run("gc", cloud="all")[0] == 2  # nobody to ask
    two_clouds[0].fault("delete", error=DeniedError("not allowed"))
    code, _, stderr = run("gc", cloud="all", yes=True)
    assert code == 1
    assert "faraway: delete image minimal-1.4.0-7" in stderr
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
def test_what_another_cloud_meets_on_the_way_is_nobodys_business(two_clouds: Two, error: Exception) -> None:
    two_clouds[1].fault("owned", error=error)
    code, _, stderr = run("launch")
    assert code == 1
    assert "no image on fake" in stderr
    assert "faraway" not in stderr


def test_gc_with_nothing_left_says_so(cloud: FakeCloud) -> None:
    code, _, stderr = run("gc")
    assert code == 0
    assert "nothing is left over" in stderr
