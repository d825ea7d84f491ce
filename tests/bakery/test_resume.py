"""Bakes whose client was killed are resumed: on a cloud that keeps layers and memory, and what a user is told."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bakery.bake import Baked, bake
from bakery.errors import StepFailedError
from bakery.events import Event, Note
from bakery.order import BakeOptions
from bakery.recipe import recipe
from bakery.recipe.recipe import Recipe, load
from bakery.resume import resume
from clouds import names
from clouds.client import Fate
from clouds.errors import ConflictError, NotFoundError, UsageError
from clouds.ledger import BakeNote, Ledger
from launcher import gc
from launcher.bakes import bakes
from tests.fake_cloud import FakeCloud, Killed, interrupt
from tests.fake_guest import Guest
from tests.fake_layers import LayeredCloud
from tests.fake_memory import MemoryCloud
from tests.fake_world import World

RECIPE = """
name = "tiny"
[[steps]]
name = "first"
run = "true"
[[steps]]
name = "second"
run = "true"
[[tests]]
name = "works"
run = "true"
"""
IMAGE = f"tiny-{names.release()}-1"


class Here(LayeredCloud, MemoryCloud):
    """A cloud like the local one."""


KINDS: dict[str, type[FakeCloud]] = {"fake": FakeCloud, "here": Here}
CALLS = (
    *("resolve_base", "owned", "boot", "check", "console", "find", "log", "stop", "snapshot", "delete", "files", "address"),
    *("label", "attach", "layers", "keep_layer", "go_on", "freeze", "unfit", "restore", "memory_bytes"),
)


@dataclass
class Stage:
    """A cloud, a store, and a bake that is killed there."""

    world: World
    home: Path
    kind: type[FakeCloud] = Here
    events: list[Event] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.home / "ledger.sqlite3")

    @property
    def recipe(self) -> Recipe:
        return load(self.home.parent / "tiny.toml")

    @property
    def notes(self) -> list[BakeNote]:
        return self.ledger.bakes("fake")

    def kill(self, operation: str, nth: int = 1, when: str = "before", options: BakeOptions = BakeOptions()) -> None:  # noqa: B008
        """Bake until the client is killed; its ledger is as it was then, although Python unwinds the stack."""
        cloud, aside = self.kind(self.world), self.home / "aside"

        def die() -> None:
            shutil.copyfile(self.home / "ledger.sqlite3", aside)
            cloud._dead = True
            raise Killed

        cloud.fault(operation, when=when, error=die, nth=nth)
        with pytest.raises(Killed):
            bake(cloud, self.recipe, options, home=self.home)
        aside.replace(self.home / "ledger.sqlite3")
        shutil.rmtree(self.home / "bakes" / self.notes[0].id / "result.json", ignore_errors=True)

    def resume(self, bake_id: str = "") -> Baked:
        def confirm(question: str) -> None:
            raise UsageError(question)

        bake_id = bake_id or self.notes[0].id
        return resume(self.kind(self.world), bake_id, home=self.home, confirm=confirm, on_event=self.events.append)

    @property
    def told(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Give an empty cloud; each client but that of the bake under way counts as dead."""
    monkeypatch.setattr(names, "client_fate", lambda labels: Fate.DEAD)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
    (tmp_path / "tiny.toml").write_text(RECIPE)
    return Stage(World(tmp_path / "world"), home)


def good_run(stage: Stage) -> dict[str, int]:
    """Return how often a bake calls each operation."""
    cloud = stage.kind(stage.world)
    bake(cloud, stage.recipe, BakeOptions(), home=stage.home)
    calls = [call.partition(" ")[0] for call in cloud.calls]
    return {operation: calls.count(operation) for operation in calls}


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory) -> dict[type[FakeCloud], dict[str, int]]:
    """Give how often a good bake calls each operation of a cloud."""
    found = {}
    for kind in KINDS.values():
        folder = tmp_path_factory.mktemp("good")
        (folder / "tiny.toml").write_text(RECIPE)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BAKEHOUSE_HOME", str(folder / "home"))
            (folder / "home").mkdir()
            found[kind] = good_run(Stage(World(folder / "world"), folder / "home", kind))
    return found


@pytest.mark.matrix(sample=1, edges=["fake-boot-after", "here-go_on-before", "here-snapshot-after"])
@pytest.mark.parametrize(("kind", "operation", "when"), list(itertools.product(KINDS, CALLS, ("before", "after"))), ids=str)
def test_bake_killed_at_any_call_is_resumed(
    stage: Stage, tmp_path: Path, counts: dict[type[FakeCloud], dict[str, int]], kind: str, operation: str, when: str
) -> None:
    assert counts[Here].keys() <= set(CALLS)
    for nth in range(1, counts[KINDS[kind]].get(operation, 0) + 1):
        again = Stage(World(tmp_path / "world"), stage.home, KINDS[kind])
        try:
            again.kill(operation, nth, when)
        except (FileNotFoundError, IndexError):  # before there was anything to resume, or when it had ended
            assert again.world.inventory() in ([], [f"image {IMAGE} ready"])
            continue
        (note,) = again.notes
        baked = again.resume()
        assert (baked.id, baked.image) == (note.id, IMAGE), nth
        assert again.world.inventory() == [f"image {IMAGE} ready"], nth
        labels = again.world.images[IMAGE].labels
        assert (labels["bake"], labels["state"], labels["role"]) == (note.id, names.STABLE, "image")
        assert again.notes == []
        assert [entry.name for entry in again.ledger.entries("fake")] == [IMAGE]


@pytest.mark.parametrize(("kind", "is_followed"), [(FakeCloud, True), (Here, False)])
def test_builder_is_followed_unless_it_may_wait(stage: Stage, kind: type[FakeCloud], is_followed: bool) -> None:
    stage.kind = kind
    stage.kill("go_on" if kind is Here else "stop", 1)
    stage.resume()
    cannot = "its builder cannot be followed: it may wait at a checkpoint; starting another one" in stage.told
    assert cannot is not is_followed


def test_finished_steps_are_reused_where_layers_are_kept(stage: Stage) -> None:
    stage.kill("go_on", 3)
    stage.resume()
    assert "boot, prepare, first; starting at step 'second'" in stage.told


def test_resumed_bake_follows_its_own_order_when_the_recipe_has_changed(stage: Stage) -> None:
    stage.kill("boot", 1, "after")
    (note,) = stage.notes
    (stage.home.parent / "tiny.toml").write_text(RECIPE.replace('"second"', '"other"'))
    stage.resume()
    assert stage.world.images[IMAGE].labels["script"] == note.labels["script"]
    assert "the recipe has changed since, and this bake does not follow that" in stage.told


def test_bake_is_taken_up_by_one_command_only(stage: Stage) -> None:
    stage.kill("boot", 1, "after")
    (note,) = stage.notes
    assert stage.ledger.take_bake(note, {**note.order, "taken": 1})
    assert not stage.ledger.take_bake(note, {**note.order, "taken": 2})
    assert stage.notes[0].order["taken"] == 1


def test_position_stays_when_a_bake_is_taken_up(stage: Stage) -> None:
    stage.kill("stop")
    (note,) = stage.notes
    stage.ledger.take_bake(note, note.order)
    assert stage.notes == [note]
    assert note.reached == len(note.order["checkpoints"])


def test_bake_of_a_living_client_is_left_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.kill("boot", 1, "after")
    monkeypatch.setattr(names, "client_fate", lambda labels: Fate.ALIVE)
    before = stage.notes
    with pytest.raises(ConflictError, match=f"is running \\(process {os.getpid()} on ") as refused:
        stage.resume()
    assert refused.value.next_step == f"Wait for it, press Ctrl-C in its terminal, or: kill {os.getpid()}"
    assert stage.notes == before


def test_user_is_asked_about_a_client_that_cannot_be_seen(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.kill("boot", 1, "after")
    monkeypatch.setattr(names, "client_fate", lambda labels: Fate.UNKNOWN)
    with pytest.raises(UsageError, match="cannot see whether the client of"):
        stage.resume()
    assert len(stage.notes) == 1


def test_bake_that_has_ended_or_is_unknown_is_an_error_with_a_next_step(stage: Stage) -> None:
    done = bake(FakeCloud(stage.world), stage.recipe, BakeOptions(), home=stage.home)
    with pytest.raises(UsageError, match=f"has finished: its image is '{IMAGE}'"):
        stage.resume(done.id)
    cloud = FakeCloud(stage.world)
    cloud.guest("bake-*", Guest("fails", at="seal"))
    with pytest.raises(StepFailedError):
        bake(cloud, stage.recipe, BakeOptions(force=True), home=stage.home)
    failed = next(path.name for path in (stage.home / "bakes").iterdir() if path.name != done.id)
    with pytest.raises(UsageError, match=r"has failed: step 'seal' failed") as refused:
        stage.resume(failed)
    assert refused.value.next_step == "Bake again: ./inv bake --recipe tiny"
    with pytest.raises(NotFoundError, match="bake 'bake-nothing' not found on fake"):
        stage.resume("bake-nothing")


def test_interrupted_bake_has_not_failed(stage: Stage) -> None:
    cloud = FakeCloud(stage.world)
    cloud.fault("snapshot", error=interrupt)
    with pytest.raises(KeyboardInterrupt):
        bake(cloud, stage.recipe, BakeOptions(), home=stage.home)
    (listed,) = bakes(cloud, "", stage.ledger, stage.home, now=time.time())
    assert listed.state == "interrupted"
    with pytest.raises(UsageError, match=r"was interrupted \(KeyboardInterrupt\)$"):
        stage.resume(listed.id)


def test_resumed_bake_that_fails_leaves_nothing(stage: Stage) -> None:
    stage.kind = FakeCloud
    FakeCloud(stage.world).guest("bake-*", Guest("fails", at="first"))
    stage.kill("console")
    with pytest.raises(StepFailedError):
        stage.resume()
    assert stage.world.inventory() == []
    assert stage.notes == []


def test_gc_leaves_what_can_be_resumed_until_it_expires_unless_told_otherwise(stage: Stage) -> None:
    stage.kill("snapshot")
    cloud, (note,) = FakeCloud(stage.world), stage.notes
    expires = names.number(note.labels, "expires")
    dead = lambda labels: True  # noqa: E731
    surveyed, _ = gc.survey(cloud, stage.ledger, now=expires - 1, is_dead=dead)
    assert ([one.name for one in surveyed.resumable], surveyed.garbage) == ([note.id], [])
    for when, bakes_too in ((expires, False), (expires - 1, True)):
        assert [one.resource.name for one in gc.find(cloud, stage.ledger, now=when, is_dead=dead, bakes=bakes_too)] == [note.id]
    cloud.delete(surveyed.resumable[0].kind, note.id)
    gc.forget_bakes(cloud, stage.ledger, now=expires - 1, is_dead=dead)
    assert stage.notes == [note]
    gc.forget_bakes(cloud, stage.ledger, now=expires, is_dead=dead)
    assert stage.notes == []


def test_bakes_are_listed_with_what_they_hold(stage: Stage) -> None:
    done = bake(FakeCloud(stage.world), stage.recipe, BakeOptions(), home=stage.home)
    stage.kill("stop", options=BakeOptions(force=True))
    killed, ended = bakes(FakeCloud(stage.world), "", stage.ledger, stage.home, now=time.time())
    assert (killed.state, killed.recipe, killed.step) == ("killed", "tiny", "snapshot")
    assert killed.holds == f"builder {killed.id} (running)"
    assert (ended.id, ended.state, ended.recipe, ended.holds) == (done.id, "finished", "tiny", "")


def test_bake_of_another_computer_is_listed_by_its_labels(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.kill("boot", 1, "after")
    monkeypatch.setattr(names, "client_fate", lambda labels: Fate.UNKNOWN)
    (view,) = bakes(FakeCloud(stage.world), "", Ledger(tmp_path / "other.sqlite3"), tmp_path, now=time.time())
    assert (view.state, view.recipe, view.step) == ("unknown", "tiny", "")
    assert view.owner


def from_elsewhere(stage: Stage) -> tuple[Stage, str]:
    """Return the same cloud as another computer sees it, and the id of the bake that is unfinished there."""
    (note,) = stage.notes
    home = stage.home.with_name("elsewhere")
    home.mkdir()
    return Stage(stage.world, home, stage.kind), note.id


def test_image_of_another_computer_is_tested_and_published_by_its_labels(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.load, "__defaults__", (stage.home.parent,))
    stage.kill("snapshot", when="after")
    there, bake_id = from_elsewhere(stage)
    assert there.resume(bake_id).id == bake_id
    assert there.world.inventory() == [f"image {IMAGE} ready"]
    assert there.world.images[IMAGE].labels["state"] == names.STABLE
    assert "resumed by the labels of its image, without the log so far" in there.told


def test_builder_of_another_computer_cannot_be_followed(stage: Stage) -> None:
    stage.kill("stop")
    before = stage.world.inventory()
    there, bake_id = from_elsewhere(stage)
    with pytest.raises(UsageError, match="can follow its builder") as refused:
        there.resume(bake_id)
    assert refused.value.next_step.endswith("or bake again: ./inv bake --recipe tiny")
    assert there.world.inventory() == before
    assert there.notes == []


def test_image_of_another_computer_whose_recipe_differs_here_is_left_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe.load, "__defaults__", (stage.home.parent,))
    stage.kill("snapshot", when="after")
    (stage.home.parent / "tiny.toml").write_text(RECIPE.replace('"second"', '"other"'))
    there, bake_id = from_elsewhere(stage)
    with pytest.raises(UsageError, match="the recipe 'tiny' makes another image here than on"):
        there.resume(bake_id)
    assert there.notes == []


def test_gc_removes_what_a_bake_that_has_ended_could_not(stage: Stage) -> None:
    stage.kind = FakeCloud
    stage.kill("snapshot")
    cloud, (note,) = FakeCloud(stage.world), stage.notes
    stage.ledger.forget_bake("fake", note.id)  # it has failed, and its own cleanup did as well
    surveyed, _ = gc.survey(cloud, stage.ledger, now=time.time(), is_dead=lambda _labels: True)
    assert (surveyed.resumable, [one.resource.name for one in surveyed.garbage]) == ([], [note.id])


def test_failed_bake_whose_builder_is_kept_is_listed_once_with_it(stage: Stage) -> None:
    FakeCloud(stage.world).guest("bake-*", Guest("fails", at="first"))
    with pytest.raises(StepFailedError):
        bake(FakeCloud(stage.world), stage.recipe, BakeOptions(keep=True), home=stage.home)
    (listed,) = bakes(FakeCloud(stage.world), "", stage.ledger, stage.home, now=time.time())
    assert (listed.state, listed.holds.split()[:2]) == ("failed", ["builder", listed.id])


def test_size_of_a_small_image_that_a_bake_holds_is_not_0_gb(stage: Stage) -> None:
    stage.kill("snapshot", when="after")
    stage.world.images[IMAGE].disk["data"] = bytes(25_000_000)
    (listed,) = bakes(FakeCloud(stage.world), "", stage.ledger, stage.home, now=time.time())
    assert f"image {IMAGE} (pending, 25 MB)" in listed.holds


@pytest.mark.parametrize(
    "content", [{"labels": {"client-pid": 7}, "checkpoints": 3}, {"labels": [], "order": {"id": 1}}, {"checkpoints": ["boot"]}]
)
def test_bake_of_another_release_is_listed_and_not_resumed(stage: Stage, content: dict[str, object]) -> None:
    stage.ledger.note_bake("fake", "bake-other", content)
    stage.ledger.note_position("fake", "bake-other", console_at="", console_rest="", log_at="", reached=7)
    (listed,) = bakes(FakeCloud(stage.world), "", stage.ledger, stage.home, now=time.time())
    assert (listed.id, listed.step) == ("bake-other", "")
    with pytest.raises(UsageError, match="another release of Bakehouse has started it"):
        stage.resume("bake-other")
    assert len(stage.notes) == 1
