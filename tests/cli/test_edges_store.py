"""Every file on this computer that a verb may read, damaged or not readable; a folder that cannot be written; a full disk.

The store is what a bake, a launch and a stopped machine leave. Each case runs a verb in a copy of it, and of its cloud.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import clouds
import launcher.command.verbs
from launcher.command.flags import Verb
from launcher.packages import place
from tests.cli.edges import FAILING, FAULTS, Ended, contents, full_disk, run, typed_for, without_privileges
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image

pytestmark = pytest.mark.program
RECIPE = 'name = "tiny"\n[[steps]]\nname = "one"\nrun = "true"\n'
PASSWORD = "quite-secret-12345"
FILES = (
    "ledger.sqlite3",
    "ssh",
    "ssh/id_ed25519",
    "ssh/id_ed25519.pub",
    "ssh/config",
    "ssh/config.d",
    "ssh/config.d/fake",
    "ssh/known_hosts",
    "ssh/known_hosts/fake",
    "ssh/known_hosts/fake/lab",
    "ssh/.lock",
    "bakes",
    "bakes/BAKE",
    "bakes/BAKE/console.log",
    "bakes/BAKE/result.json",
    "bakes/BAKE/packages.cdx.json",
    "packages",
    "packages/BAKE.cdx.json",
    "packages/BAKE.open.json",
    "resolved",
    "resolved/tiny.json",
)
"""What the store holds; BAKE is the id of the bake."""
WRITTEN_ANEW = ("ssh/config", "ssh/config.d/", "ssh/.lock", "ssh/id_ed25519.pub", "resolved/", "bakes/")
"""What verbs write anew or, of a bake, add; a public key follows from its private one."""


NO_SSH = ("ssh", "copy", "password", "check-machine", "delete-disk", "delete-address")
"""Verbs that fail in this cloud in any case: no SSH server of it lets anyone in, and it keeps neither disks nor addresses."""
DISKS = (0, 1, 100, 500, 4096, 30_000)
"""How large a file may become on a full disk, in bytes."""
CASES = len(FAILING) * (len(FILES) * len(FAULTS) + len(DISKS) + 1)


@dataclass(frozen=True)
class Model:
    """A cloud and a store, to be copied; `bake` is the id of the bake that made the image."""

    world: World
    home: Path
    recipe: Path
    password: Path
    bake: str


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("edges")
    world, recipe, password = World(folder / "world"), folder / "tiny.toml", folder / "password"
    recipe.write_text(RECIPE)
    password.write_text(PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAKEHOUSE_HOME", str(folder / "home"))
        patch.setattr(clouds, "connect", lambda _name=None, _given=None: FakeCloud(world))
        put_image(world, "jupyter", "0.1.0-1")
        for verb, typed in (
            ("bake", {"recipe": str(recipe)}),
            ("launch", {"recipe": "jupyter", "name": "lab"}),
            ("launch", {"recipe": "jupyter", "name": "off"}),
            ("stop", {"name": "off", "yes": True}),
        ):
            ended = run(FAILING[verb], **typed)
            assert ended.code == 0, ended
    (bake,) = (folder / "home/bakes").iterdir()
    place(folder / "home", bake.name, "open").write_text("{}")  # as after `rebuild`
    yield Model(world, folder / "home", recipe, password, bake.name)


@dataclass(frozen=True)
class Stage:
    """A copy of the model, and the verbs in it."""

    model: Model
    home: Path

    def run(self, verb: Verb) -> Ended:
        image = next(name for name in self.model.world.images if name.startswith("tiny"))
        name = "off" if verb.name == "start" else "lab"
        given = {
            "image": image,
            "old": image,
            "new": image,
            "name": name,
            "id": self.model.bake,
            "source": "lab:a",
            "destination": "got",
        }
        recipe = "jupyter" if verb in launcher.command.verbs.VERBS else str(self.model.recipe)
        typed = typed_for(verb, given, {"recipe": recipe, "password-file": str(self.model.password)})
        return run(verb, ("true",) if verb.takes_command else (), **typed)

    def path(self, name: str) -> Path:
        return self.home / name.replace("BAKE", self.model.bake)


@pytest.fixture
def new_stage(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Stage]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BROWSER", "true")
    monkeypatch.setattr("bakery.rebuild.rebuild.run", lambda *_, **__: [])  # its bakes are processes, which would use real clouds

    def make(name: str) -> Stage:
        home = tmp_path / name / "home"
        shutil.copytree(model.home, home)
        world = copy.deepcopy(model.world)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: FakeCloud(world))
        return Stage(model, home)

    return make


def lost(before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return the files whose content is nowhere any more, although no verb writes them anew."""
    kept = set(after.values())
    return [
        name for name, content in before.items() if content not in kept and not name.startswith((*WRITTEN_ANEW, "ledger.sqlite3"))
    ]


@pytest.mark.parametrize("verb", FAILING.values(), ids=lambda verb: verb.name)
def test_verb_ends_well_in_the_store_as_it_is(verb: Verb, new_stage: Callable[[str], Stage]) -> None:
    ended = new_stage("sound").run(verb)
    assert (ended.code == 0) == (verb.name not in NO_SSH), ended


@pytest.mark.matrix(sample=40, edges=[])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("verb", FAILING.values(), ids=lambda verb: verb.name)
def test_damaged_file_of_the_store(verb: Verb, file: str, new_stage: Callable[[str], Stage]) -> None:
    wrong: list[str] = []
    for fault, damage in FAULTS.items():
        stage = new_stage(fault)
        damage(stage.path(file))
        before = contents(stage.home)
        with without_privileges():
            ended = stage.run(verb)
        found = problems_of(verb, ended)
        if verb.name not in ("delete", "delete-image", "gc"):
            found += [f"lost {name}" for name in lost(before, contents(stage.home))]
        if found:
            wrong.append(f"{fault}: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)


def problems_of(verb: Verb, ended: Ended) -> list[str]:
    found = ended.problems()
    shown = ended.stderr + ("" if verb.name == "launch" else ended.stdout)  # a launch prints the password of its machine
    if PASSWORD in shown or "PRIVATE KEY" in shown:
        found.append("a secret")
    return found


@pytest.mark.matrix(sample=5, edges=[])
@pytest.mark.parametrize("verb", FAILING.values(), ids=lambda verb: verb.name)
def test_full_disk(verb: Verb, new_stage: Callable[[str], Stage]) -> None:
    wrong: list[str] = []
    for size in DISKS:
        stage = new_stage(str(size))
        before = contents(stage.home)
        with full_disk(size):
            ended = stage.run(verb)
        found = problems_of(verb, ended)
        if verb.name not in ("delete", "delete-image", "gc"):
            found += [f"lost {name}" for name in lost(before, contents(stage.home))]
        if found:
            wrong.append(f"{size} bytes: {', '.join(found)}: {ended}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("verb", FAILING.values(), ids=lambda verb: verb.name)
def test_read_only_store(verb: Verb, new_stage: Callable[[str], Stage]) -> None:
    stage = new_stage("read-only")
    before = contents(stage.home)
    for path in (stage.home, *stage.home.rglob("*")):
        path.chmod(0o500 if path.is_dir() else 0o400)
    with without_privileges():
        ended = stage.run(verb)
    assert problems_of(verb, ended) == [], ended
    assert contents(stage.home) == before
