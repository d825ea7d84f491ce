"""One recipe that is edited and baked, again and again: what is run each time, and that the image is as if all had been run.

The fixtures are the history of the recipe, each the next chapter.
"""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from clouds.errors import TimedOutError
from clouds.local.memory import trust
from clouds.local.memory.transport import STATE
from clouds.local.store import LAYER, visible
from clouds.waiter import until
from tests.vm.bakehouse import RECIPES, Bakehouse, Finished, finish, holds
from tests.vm.tree import Found, differences, read_tree

pytestmark = pytest.mark.vm

KEY = "/etc/ssl/private/ssl-cert-snakeoil.key"
STORY = "/srv/edits/story"
"""A file to which most steps add a line."""
TOLD = b"APT_CONFIG=/run/bakehouse"
"""What stands in the environment of each step beside the proxies of this computer, which may have passwords in them."""
VOLATILE = {
    r"/etc/shadow-?": "holds the day on which the user was made",
    r"/var/log/.*": "services write there as they stop, after the seal",
    r"/var/lib/systemd/(timers|timesync)/.*": "when timers ran, and the clock",
}
"""What may differ between two images that are made of the same, as expressions for whole paths, and why."""
KILLS = {
    "as the step ends": "",
    "as its layer is begun": ".partial-*/state",
    "as its memory is written": ".partial-*/memory.json",
    "as its layer is there": f"[!.]*/{LAYER}",
}
"""When a bake is killed that keeps a layer: as soon as such a file is new among the layers."""


@dataclass(frozen=True)
class Author:
    """Whoever writes the recipe."""

    bakehouse: Bakehouse
    recipe: Path

    def edit(self, old: str, new: str) -> None:
        """Write something else in one place of the recipe."""
        text = self.recipe.read_text()
        assert text.count(old) == 1
        self.recipe.write_text(text.replace(old, new))

    def add(self, line: str) -> None:
        """Put a step at the end of the recipe that adds a line to the story, in the place of one that was put there before."""
        text = self.recipe.read_text().partition('\n[[steps]]\nname = "added"\n')[0]
        self.recipe.write_text(f'{text}\n[[steps]]\nname = "added"\nrun = "echo {line} >>{STORY}"\n')

    def bake(self, *flags: str) -> Finished:
        """Bake the recipe as it is now."""
        return self.bakehouse.run("bake", "--recipe", str(self.recipe), "--json", *flags)

    def run_steps(self) -> Finished:
        """Bake the recipe as it is now, and interrupt that when all steps have ended: layers are kept, an image is not."""
        process = self.bakehouse.start("bake", "--recipe", str(self.recipe), "--json")
        assert process.stdout
        seen = []
        for line in process.stdout:
            seen.append(line)
            event = json.loads(line)
            if (event.get("event"), event.get("name")) == ("step-ended", "seal"):
                break
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        interrupted = Finished(ended.status, "".join(seen) + ended.stdout, ended.stderr)
        assert interrupted.status == 128 + signal.SIGINT, interrupted
        return interrupted

    @property
    def layers(self) -> Path:
        """The folder of layers."""
        return self.bakehouse.home / "local/layers"


def must(baked: Finished) -> Finished:
    """Return a bake that has to end well."""
    assert baked.status == 0, f"{baked.stdout}\n{baked.stderr}"
    return baked


def ran(baked: Finished) -> list[str]:
    """Return the steps that a bake has begun."""
    return [line["name"] for line in baked.lines if line.get("event") == "step-started" and line["total"]]


def told(baked: Finished) -> str:
    """Return the news of a bake."""
    return "\n".join(line["text"] for line in baked.lines if line.get("event") == "note")


@pytest.fixture(scope="module")
def author(bakehouse: Bakehouse, tmp_path_factory: pytest.TempPathFactory) -> Author:
    """Give the author of a recipe that nobody has baked."""
    folder = tmp_path_factory.mktemp("recipe")
    shutil.copytree(RECIPES / "edits", folder / "edits")
    return Author(bakehouse, Path(shutil.copy(RECIPES / "edits.toml", folder)))


@pytest.fixture(scope="module")
def first(author: Author) -> Finished:
    """Run the steps of the recipe as it is written at first."""
    return author.run_steps()


@pytest.fixture(scope="module")
def changed(author: Author, first: Finished) -> Finished:
    """Run them once the last one is another."""
    assert ran(first)
    author.edit("echo last ", "echo at last ")
    return author.run_steps()


@pytest.fixture(scope="module")
def failed(author: Author, changed: Finished) -> Finished:
    """Bake it with a mistake in its middle."""
    assert ran(changed)
    author.edit("echo middle ", "exit 1\necho in the middle ")
    return author.bake()


@pytest.fixture(scope="module")
def mended(author: Author, failed: Finished) -> Finished:
    """Bake it without that mistake."""
    assert failed.status == 1
    author.edit("exit 1\n", "")
    return must(author.bake())


@pytest.fixture(scope="module")
def added(author: Author, mended: Finished) -> Finished:
    """Bake it with one step more, the one of the last bake that was killed."""
    assert mended.result["recipe"] == "edits"
    author.add(list(KILLS)[-1])
    return must(author.bake())


@pytest.fixture(scope="module")
def anew(author: Author, added: Finished) -> Finished:
    """Bake all of the same once more."""
    assert added.result["recipe"] == "edits"
    return must(author.bake("--no-cache"))


def test_the_memory_in_a_layer_holds_nothing_of_what_its_builder_was_told(author: Author, first: Finished) -> None:
    assert "prepare" in {json.loads((layer / LAYER).read_text())["step"] for layer in visible(author.layers)}
    assert [layer.name for layer in visible(author.layers) if holds(layer / STATE, [TOLD])] == []
    assert ran(first)


def test_a_change_of_the_last_step_runs_that_step_alone(first: Finished, changed: Finished) -> None:
    assert ran(first)[-5:] == ["first", "files", "middle", "last", "seal"]
    assert ran(changed) == ["last", "seal"]
    assert "boot, prepare, first, files, middle; starting at step 'last': it differs from" in told(changed)


def test_a_step_that_fails_is_the_only_one_that_has_run(bakehouse: Bakehouse, failed: Finished) -> None:
    assert (failed.status, failed.result["step"]) == (1, "middle")
    assert "finished steps are reused" in failed.result["next"]
    assert ran(failed) == ["middle"]
    assert bakehouse.left_overs() == []


def test_a_bake_goes_on_from_the_last_good_layer_when_the_step_is_mended(mended: Finished) -> None:
    assert ran(mended) == ["middle", "last", "seal"]
    assert "boot, prepare, first, files; starting at step 'middle'" in told(mended)


@pytest.mark.matrix(sample=1, edges=["as its memory is written"])
@pytest.mark.parametrize("point", KILLS)
def test_after_a_kill_gc_leaves_whole_layers_only(author: Author, mended: Finished, point: str) -> None:
    assert mended.result["recipe"] == "edits"
    author.add(point)
    kill_at(author, KILLS[point])
    author.bakehouse.must("gc", "--bakes", "--yes")
    assert author.bakehouse.left_overs() == []
    kept = visible(author.layers)
    assert kept
    assert [folder for folder in kept if not (folder / LAYER).exists() or not trust.is_whole(folder)] == []


def kill_at(author: Author, pattern: str) -> None:
    """Begin a bake, and kill it when the step `added` has ended and a file of this pattern is new among the layers."""
    before = set(author.layers.glob("*/*"))
    process = author.bakehouse.start("bake", "--recipe", str(author.recipe), "--json")
    assert process.stdout
    for line in process.stdout:
        seen = json.loads(line)
        if (seen.get("event"), seen.get("name")) == ("step-ended", "added"):
            break
    patterns = (pattern, f"[!.]*/{LAYER}")  # what is half made may be whole before we look

    def has_come() -> bool:
        return any(set(author.layers.glob(one)) - before for one in patterns)

    if pattern:
        with suppress(TimedOutError):  # so slow a bake is killed wherever it is then
            until(has_come, what=pattern, timeout_s=20, poll_s=0.001)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -9


def test_an_added_step_runs_none_of_those_before_it(added: Finished) -> None:
    assert ran(added) in (["added", "seal"], ["seal"])  # a killed bake may have kept a layer of it


@pytest.fixture(scope="module")
def tree(bakehouse: Bakehouse, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Found]]:
    """Give what returns all that is on the disk of an image."""

    @cache
    def read(image: str) -> dict[str, Found]:
        scratch = tmp_path_factory.mktemp("disk")
        try:
            return read_tree(bakehouse.home / "local/images" / image / "disk.qcow2", scratch)
        finally:
            shutil.rmtree(scratch)

    return read


@pytest.mark.long
def test_without_cache_all_steps_run_and_the_image_is_equal_to_one_of_reused_steps(
    added: Finished, anew: Finished, tree: Callable[[str], dict[str, Found]]
) -> None:
    assert ran(anew)[-7:] == ["prepare", "first", "files", "middle", "last", "added", "seal"]
    assert differences(tree(added.result["image"]), tree(anew.result["image"]), VOLATILE) == {}


def test_an_added_step_changes_what_it_says_and_nothing_else(
    mended: Finished, added: Finished, tree: Callable[[str], dict[str, Found]]
) -> None:
    before, after = tree(mended.result["image"]), tree(added.result["image"])
    assert len(after) > 5000
    assert after["/srv/edits/deep/odd"].mode == "104751"
    assert differences(before, after, VOLATILE).keys() == {STORY}


@pytest.fixture(scope="module")
def machine(bakehouse: Bakehouse, added: Finished) -> Iterator[str]:
    """Give a machine launched from an image of reused steps when all layers are gone."""
    bakehouse.must("gc", "--layers", "--yes")
    assert visible(bakehouse.home / "local/layers") == []
    bakehouse.must("launch", "--recipe", "edits", "--version", added.result["version"], "--name", "edited")
    yield "edited"
    bakehouse.must("delete", "edited", "--yes")
    assert bakehouse.left_overs() == []


def test_an_image_is_launched_when_all_layers_are_gone(bakehouse: Bakehouse, machine: str) -> None:
    story = bakehouse.must("ssh", machine, "--", "sudo", "cat", STORY, timeout_s=120).stdout
    assert story.splitlines() == ["first", "in the middle", "at last", list(KILLS)[-1]]


def test_key_of_a_package_is_in_no_image_and_made_anew_by_a_restored_machine(
    bakehouse: Bakehouse, added: Finished, tree: Callable[[str], dict[str, Found]], machine: str
) -> None:
    files = tree(added.result["image"])
    assert "/var/lib/bakehouse/host-keys" in files
    assert KEY not in files
    look = ("sudo", "stat", "--format=%Y", KEY, "/var/lib/bakehouse/machine")  # the saved memory has one, older than its identity

    def is_new() -> bool:
        times = bakehouse.must("ssh", machine, "--", *look, timeout_s=120).stdout.split()
        return len(times) == 2 and int(times[0]) >= int(times[1])

    until(is_new, what="the machine's own key", timeout_s=120, poll_s=0.5)
    failed = ("sudo", "systemctl", "list-units", "--failed", "--plain", "--no-legend")
    assert bakehouse.must("ssh", machine, "--", *failed).stdout == ""
