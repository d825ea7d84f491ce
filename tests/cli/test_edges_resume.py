"""`bake --resume` with whatever is typed, and each file of a killed bake damaged: an error that says what to do, or the image."""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

import clouds
from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import load
from clouds import names
from clouds.client import Fate
from clouds.ledger import Ledger
from tests.cli.edges import FAULTS, ODD_WORDS, PRODUCT, full_disk, run, without_privileges
from tests.fake_cloud import FakeCloud, Killed
from tests.fake_world import World

pytestmark = pytest.mark.program
RECIPE = 'name = "tiny"\n[[steps]]\nname = "one"\nrun = "true"\n'
FILES = ("ledger.sqlite3", "bakes", "bakes/BAKE", "bakes/BAKE/console.log", "bakes/BAKE/result.json", "resolved")
OPERATIONS = ("boot", "console", "snapshot")
DISKS = (0, 1, 100, 500, 4096, 30_000)
CASES = len(OPERATIONS) * (len(FILES) * len(FAULTS) + len(DISKS)) + len(ODD_WORDS)


@dataclass(frozen=True)
class Model:
    """A cloud and a store with a bake that was killed, to be copied."""

    world: World
    home: Path
    bake: str


def killed(folder: Path, operation: str) -> Model:
    """Bake until the client is killed after an operation."""
    home, world, recipe = folder / "home", World(folder / "world"), folder / "tiny.toml"
    recipe.write_text(RECIPE)
    cloud, kept = FakeCloud(world), folder / "ledger"

    def die() -> None:
        shutil.copyfile(home / "ledger.sqlite3", kept)
        cloud._dead = True
        raise Killed

    cloud.fault(operation, when="after", error=die)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEHOUSE_HOME", str(home))
        with pytest.raises(Killed):
            bake(cloud, load(recipe), BakeOptions(), home=home)
    kept.replace(home / "ledger.sqlite3")  # Python has cleaned up; SIGKILL does not
    (note,) = Ledger(home / "ledger.sqlite3").bakes("fake")
    return Model(world, home, note.id)


@pytest.fixture(autouse=True)
def all_are_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "client_fate", lambda _labels: Fate.DEAD)


def stage(model: Model, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let verbs use a copy of a store and its cloud."""
    shutil.copytree(model.home, home)
    world = copy.deepcopy(model.world)
    monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: FakeCloud(world))
    return home


@pytest.mark.matrix(sample=3, edges=["console-ledger.sqlite3"])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_damaged_file(operation: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrong = killed(tmp_path, operation), list[str]()
    for fault, damage in FAULTS.items():
        path = stage(model, tmp_path / fault / "home", monkeypatch) / file.replace("BAKE", model.bake)
        if path.exists():
            damage(path)
        with without_privileges():
            ended = run(PRODUCT["bake"], resume=model.bake, yes=True)
        if found := ended.problems():
            wrong.append(f"{fault}: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.matrix(sample=1, edges=[])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_full_disk(operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrong = killed(tmp_path, operation), list[str]()
    for size in DISKS:
        stage(model, tmp_path / str(size) / "home", monkeypatch)
        with full_disk(size):
            ended = run(PRODUCT["bake"], resume=model.bake, yes=True)
        if found := ended.problems():
            wrong.append(f"{size} bytes: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)


def test_odd_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, wrong = killed(tmp_path, "boot"), list[str]()
    home = stage(model, tmp_path / "copy/home", monkeypatch)
    for case, word in ODD_WORDS.items():
        ended = run(PRODUCT["bake"], resume=word, yes=True)
        expected = 1 if word.strip() else 2  # not found, or a wrong use
        found = ended.problems() + ([] if ended.code == expected else ["not refused as it should be"])
        if found:
            wrong.append(f"{case}: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)
    assert [note.id for note in Ledger(home / "ledger.sqlite3").bakes("fake")] == [model.bake]
