"""The records of the local cloud, each damaged in every way, and every verb that starts no machine from a sound one."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import pytest

from clouds.local import driver
from clouds.local.host import files
from clouds.local.machines import Machines
from clouds.local.store import MANIFEST
from clouds.local.vm.accelerator import KVM, Choice, choose
from launcher.command.flags import Verb
from tests.cli.edges import FAILING, FAULTS, Ended, contents, full_disk, run, typed_for, without_privileges
from tests.clouds.local.small import BASE, make_store, needs_tools, order
from tests.clouds.local.test_layers import put_layer

pytestmark = [needs_tools, pytest.mark.program]
IMAGE = "mine-0.1.0-1"
FILES = (
    ".",
    "accelerator.json",
    "bases",
    f"bases/{BASE}",
    f"bases/{BASE}/base.json",
    f"bases/{BASE}/disk.qcow2",
    "images",
    f"images/{IMAGE}",
    f"images/{IMAGE}/{MANIFEST}",
    "layers",
    "layers/layer-a",
    "layers/layer-a/layer.json",
    "layers/layer-a/memory.json",
    "machines",
    "machines/lab",
    "machines/lab/machine.json",
    "machines/lab/disk.qcow2",
    "machines/lab/console.log",
    ".lock",
)
"""What the store of the local cloud holds."""
VERBS = [verb for verb in FAILING.values() if verb.name not in ("bake", "launch", "plan", "start", "render", "recipes")]
"""Those that start no machine, and build no base, if what they read is sound."""
DISKS = (0, 100, 5000)
CASES = len(VERBS) * (len(FILES) * len(FAULTS) + len(DISKS))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store with a base, a layer, an image and a machine that is off, to be copied."""
    home = tmp_path_factory.mktemp("edges") / "home"
    home.mkdir(mode=0o700)
    store = make_store(home / "local")
    put_layer(store, "a", BASE)
    image = store.images / IMAGE
    image.mkdir(parents=True)
    labels = {"project": "bakehouse", "role": "image", "recipe": "mine", "version": "0.1.0-1", "state": "stable"}
    files.write_json(image / MANIFEST, {"labels": labels, "source": BASE, "created_at": 1.0})
    Machines(store).prepare(order("lab"))
    (store.machines / "lab/console.log").write_text("it ran\n")
    (store.folder / "accelerator.json").write_text("{}")
    (store.folder / ".lock").touch()
    return home


@pytest.fixture(autouse=True)
def no_qemu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the accelerator be chosen without running QEMU."""
    found = functools.partial(choose, version=lambda: "QEMU emulator version 10.0.2", probe=lambda: Choice(KVM))
    monkeypatch.setattr(driver, "choose", found)


@pytest.mark.matrix(sample=30, edges=[])
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_damaged_record(verb: Verb, file: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    monkeypatch.chdir(tmp_path)
    for number, (fault, damage) in enumerate(FAULTS.items()):
        home = tmp_path / str(number) / "home"
        shutil.copytree(model, home, symlinks=True)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        damage(home / "local" / file)
        before = contents(home)
        with without_privileges():
            ended = ended_by(verb)
        wrong += problems_of(verb, fault, ended, before, contents(home))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_full_disk(verb: Verb, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[str] = []
    monkeypatch.chdir(tmp_path)
    for size in DISKS:
        home = tmp_path / str(size) / "home"
        shutil.copytree(model, home, symlinks=True)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        before = contents(home)
        with full_disk(size):
            ended = ended_by(verb)
        wrong += problems_of(verb, f"{size} bytes", ended, before, contents(home))
    assert not wrong, "\n".join(wrong)


def ended_by(verb: Verb) -> Ended:
    """Run a verb on the local cloud."""
    given = {"image": IMAGE, "old": IMAGE, "new": IMAGE, "source": "lab:a", "destination": "got"}
    return run(verb, ("true",) if verb.takes_command else (), **typed_for(verb, given, {"cloud": "local"}))


def problems_of(verb: Verb, case: str, ended: Ended, before: dict[str, bytes], after: dict[str, bytes]) -> list[str]:
    """Return what is wrong with the end of a verb, or lost by it: all but a cache, and what it was to delete, must be there."""
    found = ended.problems()
    manifest = (f"local/images/{IMAGE}/manifest.json",)
    written = {
        "delete": ("local/",),
        "delete-image": ("local/",),
        "gc": ("local/bases/", "local/layers/"),
        "pin": manifest,
        "unpin": manifest,
    }
    doomed = written.get(verb.name, ())
    kept, doomed = set(after.values()), ("local/accelerator.json", *doomed)
    found += [f"lost {name}" for name, content in before.items() if content not in kept and not name.startswith(doomed)]
    return [f"{case}: {', '.join(found)}: {ended}"] if found else []
