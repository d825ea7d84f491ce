"""What the ledger knows of a bake under way: enough for another process to go on with it, from before the first request."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from bakery.bake import bake
from bakery.order import BakeOptions, read_order
from bakery.recipe.recipe import Recipe, load
from clouds import names
from clouds.client import Fate
from clouds.driver import START, BootSpec, Kind, Limits
from clouds.errors import CloudError
from clouds.ledger import BakeNote, Ledger
from clouds.markers import Checkpoint, Marker, parse, split_lines
from clouds.names import client_fate
from launcher import gc
from tests.fake_cloud import FakeCloud
from tests.fake_layers import LayeredCloud
from tests.fake_world import World

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[2]


@pytest.fixture
def recipe() -> Recipe:
    return load("minimal")


def notes(home: Path) -> list[BakeNote]:
    return Ledger(home / "ledger.sqlite3").bakes("fake")


def test_bake_is_noted_with_its_order_before_anything_is_asked_for(fake: FakeCloud, recipe: Recipe, tmp_path: Path) -> None:
    seen: list[BakeNote] = []
    fake.fault("boot", when="before", error=lambda: seen.extend(notes(tmp_path)))
    baked = bake(fake, recipe, BakeOptions(), home=tmp_path)
    (note,) = seen
    assert (note.id, note.console_at, note.reached) == (baked.id, START, 0)
    assert client_fate(note.labels) is Fate.ALIVE
    assert note.order["recipe"] == "minimal"
    assert len(note.order["order"]["nonce"]) == 32
    assert note.order["checkpoints"][-1] == "seal"
    order = read_order(note.order)
    assert order
    assert (order.recipe, order.script.checkpoints[-1], order.labels["bake"]) == (recipe, "seal", baked.id)
    assert notes(tmp_path) == []


def markers(lines: list[str], note: BakeNote) -> list[Marker]:
    return [marker for line in lines if (marker := parse(line, note.order["order"]["nonce"]))]


@pytest.mark.parametrize("piece_bytes", [None, 37])
def test_position_and_the_line_that_was_begun_there_are_where_another_process_reads_on(
    fake: FakeCloud, recipe: Recipe, tmp_path: Path, piece_bytes: int | None
) -> None:
    seen: list[BakeNote] = []
    consoles: list[tuple[str, str]] = []

    def look() -> None:
        seen.extend(notes(tmp_path))
        fake.piece_bytes = None
        consoles.append((fake.console(seen[0].id).text, fake.console(seen[0].id, seen[0].console_at).text))

    fake.piece_bytes = piece_bytes
    fake.fault("snapshot", when="before", error=look)
    bake(fake, recipe, BakeOptions(), home=tmp_path)
    (note,), ((whole, after),) = seen, consoles
    lines, rest = split_lines("", whole.removesuffix(after))
    assert rest == note.console_rest
    told, left = (markers(some, note) for some in (lines, split_lines(rest, after)[0]))
    assert [told[-1], *left] == markers(split_lines("", whole)[0], note)[len(told) - 1 :]
    assert isinstance(told[-1], Checkpoint)
    assert (told[-1].seq, note.reached) == (note.reached, len(note.order["checkpoints"]))
    if piece_bytes is None:
        assert left == []


def test_each_checkpoint_is_noted_once_a_waiting_builder_has_gone_on(world: World, recipe: Recipe, tmp_path: Path) -> None:
    cloud, waiting, running = LayeredCloud(world), list[int](), list[int]()
    cloud.fault("go_on", when="before", error=lambda: waiting.extend(note.reached for note in notes(tmp_path)), nth=None)
    cloud.fault("console", when="before", error=lambda: running.extend(note.reached for note in notes(tmp_path)), nth=None)
    bake(cloud, recipe, BakeOptions(), home=tmp_path)
    assert set(waiting) == {0}
    assert sorted({*running}) == list(range(len(waiting) + 2))  # the last one: while the image is tested


def test_bake_that_fails_is_forgotten(fake: FakeCloud, recipe: Recipe, tmp_path: Path) -> None:
    fake.fault("snapshot", error=CloudError("no"))
    with pytest.raises(CloudError):
        bake(fake, recipe, BakeOptions(), home=tmp_path)
    assert notes(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from bakery.bake import bake
from bakery.order import BakeOptions, read_order
from bakery.recipe.recipe import load
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
home = Path(sys.argv[1])
cloud = FakeCloud(World(home / "world"))
cloud.fault("snapshot", when="before", error=lambda: os.kill(os.getpid(), 9))
bake(cloud, load("minimal"), BakeOptions(), home=home)
"""


def test_bake_that_is_killed_is_known_to_others_until_it_expires_and_gc_finds_no_builder(fake: FakeCloud, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    (note,) = notes(tmp_path)
    assert client_fate(note.labels) is Fate.DEAD
    assert note.reached == len(note.order["checkpoints"])
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    builder = BootSpec(name=note.id, token="t", source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels={}, deadline_s=0)
    fake.boot(builder)
    expires = names.number(note.labels, "expires")
    gc.forget_bakes(fake, ledger, now=expires)
    assert notes(tmp_path) == [note]
    fake.delete(Kind.MACHINE, note.id)
    gc.forget_bakes(fake, ledger, now=expires - 1)
    assert notes(tmp_path) == [note]
    gc.forget_bakes(fake, ledger, now=expires)
    assert notes(tmp_path) == []


def test_bake_whose_builder_its_cloud_may_not_list_yet_is_kept(fake: FakeCloud, tmp_path: Path) -> None:
    """The builder of a bake may be requested long after the bake was noted, such as one that is started once more."""
    fake.limits = Limits(unseen_s=60)
    ledger = Ledger(tmp_path / "ledger.sqlite3")
    ledger.note_bake(fake.name, "bake-1", {})
    noted_at = notes(tmp_path)[0].asked_at
    gc.forget_bakes(fake, ledger, now=noted_at + 59, is_dead=lambda _labels: True)
    assert [note.id for note in notes(tmp_path)] == ["bake-1"]
    ledger.ask(fake.name, Kind.MACHINE, "bake-1", {})
    requested_at = ledger.entries(fake.name)[0].asked_at
    with sqlite3.connect(tmp_path / "ledger.sqlite3") as connection:
        connection.execute("UPDATE bake SET asked_at = asked_at - 600")
    gc.forget_bakes(fake, ledger, now=requested_at + 59, is_dead=lambda _labels: True)
    assert [note.id for note in notes(tmp_path)] == ["bake-1"]
    gc.forget_bakes(fake, ledger, now=requested_at + 61, is_dead=lambda _labels: True)
    assert notes(tmp_path) == []


def test_order_is_plain_data(fake: FakeCloud, recipe: Recipe, tmp_path: Path) -> None:
    seen: list[BakeNote] = []
    fake.fault("boot", when="before", error=lambda: seen.extend(notes(tmp_path)))
    bake(fake, recipe, BakeOptions(), home=tmp_path)
    assert json.loads(json.dumps(seen[0].order)) == seen[0].order
