"""Resources with unexpected labels: foreign, damaged, or of another release."""

from __future__ import annotations

import io
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import clouds
from clouds import names
from clouds.driver import BootSpec, Kind, State
from clouds.home import home
from clouds.ledger import Ledger
from launcher.command import runner
from launcher.command.terminal import Terminal
from tests.cli.verbs import VERBS
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_world import Image, Machine, World
from tests.launcher.given import SIZES, launch_one, put_image
from tests.matrix import examples

ODD = (
    "",
    "0",
    "-1",
    "1e9",
    "nan",
    "²",
    "٣",
    "9" * 30,
    "9" * 5000,
    "1.4.0-²",
    "1.4.0-9",
    "1.4.0",
    "v1",
    "\x1b[2J",
    "a\nb",
    "machine",
)
KEYS = (
    *("expires", "role", "state", "version", "recipe", "notebook", "https", "image", "machine", "bake", "script", "chain", "keep"),
    *("cpus", "memory-mb", "disk-gb", "built-gb", "client-pid", "client-start", "client-host", "created", "base", "owner"),
)
VALUES = st.sampled_from((*ODD, "stable", "candidate", "image", "builder", "test", "minimal", "1")) | st.text(max_size=8)


def odd_labels(**given: str) -> st.SearchStrategy[dict[str, str]]:
    """Draw the labels of a resource: those of its kind, some of them missing or odd, and some new ones."""
    drawn = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), VALUES, max_size=8)
    lost = st.sets(st.sampled_from(sorted(given)))
    return st.tuples(lost, drawn).map(lambda both: {key: given[key] for key in given.keys() - both[0]} | both[1])


OWN = {key: value for key, value in names.client_labels().items() if key != "project"}
MACHINES = odd_labels(**OWN, role="machine", expires="99999999999", notebook="1", image="minimal-1.4.0-1")
IMAGES = odd_labels(**OWN, **SIZES, role="image", state="stable", recipe="minimal", version="1.4.0-8", notebook="0")


def spec_of(labels: dict[str, str]) -> BootSpec:
    return BootSpec(name="odd", token="t", source="base", cpus=1, memory_mb=1, disk_gb=1, labels=labels, deadline_s=0)


def run(cloud: FakeCloud, verb: str, **typed: str | bool) -> tuple[int, str, str]:
    """Run a verb in a cloud; return its exit code, stdout and stderr."""
    terminal = Terminal(io.StringIO(), io.StringIO(), io.StringIO())
    nothing: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in VERBS[verb].flags}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clouds, "connect", lambda _name=None, _given=None: cloud)
        code = runner.run(VERBS[verb], nothing | typed, (), terminal)
    return code, terminal.stdout.getvalue(), terminal.stderr.getvalue()  # type: ignore[attr-defined]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=examples(25))
@given(machine=MACHINES, image=IMAGES, state=st.sampled_from(list(State)), keeps_memory=st.booleans())
def test_odd_labels_cost_their_own_line_and_no_verb(
    machine: dict[str, str], image: dict[str, str], state: State, keeps_memory: bool
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder))
        cloud = (MemoryCloud if keeps_memory else FakeCloud)(world)
        put_image(world, "minimal", "1.4.0-7", notebook="0")
        launch_one(cloud, "good", "minimal")
        machine, image = machine | {"project": "bakehouse"}, image | {"project": "bakehouse"}
        world.machines["odd"] = Machine(spec_of(machine), machine, {}, {}, 1.0, state)
        world.images["odd-image"] = Image(image, {}, 2000.0, State.READY)
        Ledger(home() / "ledger.sqlite3").ask(cloud.name, Kind.MACHINE, "odd", machine)

        code, stdout, stderr = run(cloud, "machines", json=True)
        assert (code, sorted(one["name"] for one in json.loads(stdout))) == (0, ["good", "odd"]), stderr
        code, stdout, stderr = run(cloud, "machines")
        assert (code, len(stdout.splitlines())) == (0, 3), stderr
        code, stdout, stderr = run(cloud, "images")
        assert (code, "minimal-1.4.0-7" in stdout) == (0, True), stderr
        code, _, stderr = run(cloud, "images", json=True)
        assert code == 0, stderr
        code, _, stderr = run(cloud, "plan", recipe="minimal")
        assert code == 0, stderr
        code, _, stderr = run(cloud, "launch", recipe="minimal", name="new")
        assert code == 0, stderr
        code, _, stderr = run(cloud, "bake", recipe="minimal")
        assert code == 0, stderr
        code, _, stderr = run(cloud, "gc", yes=True)
        assert code in (0, 1), stderr
        if "odd" in world.machines:
            code, _, stderr = run(cloud, "delete", name="odd", yes=True)
            assert code == 0, stderr
        code, _, stderr = run(cloud, "delete-image", image="odd-image", yes=True)
        assert code in (0, 1), stderr
        assert {"good", "new"} <= world.machines.keys()


@pytest.mark.parametrize("lost", ["version", "cpus", "memory-mb", "disk-gb"])
def test_image_whose_labels_are_damaged_is_listed_so_and_no_other_is_passed_over(world: World, lost: str) -> None:
    cloud = FakeCloud(world)
    put_image(world, "minimal", "1.4.0-7", notebook="0")
    damaged = put_image(world, "minimal", "1.4.0-8", notebook="0")
    del world.images[damaged].labels[lost]
    assert f"{damaged}  damaged" in run(cloud, "images")[1]
    code, stdout, _ = run(cloud, "launch", recipe="minimal", json=True)
    assert (code, json.loads(stdout)["image"]) == (0, "minimal-1.4.0-7")


def test_damaged_only_image_of_a_recipe_is_reported_with_a_hint(world: World) -> None:
    damaged = put_image(world, "minimal", "1.4.0-8", notebook="0")
    world.images[damaged].labels["cpus"] = "many"
    code, _, stderr = run(FakeCloud(world), "launch", recipe="minimal", version="1.4.0-8")
    assert code == 1
    assert stderr.splitlines()[0] == f"error: image {damaged!r}: its label 'cpus' is missing or damaged"
    assert "./inv bake --recipe minimal --force" in stderr
