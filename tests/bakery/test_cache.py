"""Bakes that reuse what others have kept: layers where the cloud keeps them, images elsewhere."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bakery.bake import Baked, bake
from bakery.errors import BuilderSilentError, StepFailedError
from bakery.events import Event, Note, StepEnded
from bakery.order import BakeOptions
from bakery.plan import plan
from bakery.recipe.recipe import Builder, Recipe, Step
from clouds import names
from clouds.driver import BootSpec, State, Ticket
from clouds.errors import CloudError, KernelPanicError, NotFoundError, RestoreError, TimedOutError, UsageError
from launcher.images import users
from tests import fake_guest
from tests.fake_cloud import FakeCloud, interrupt
from tests.fake_guest import CONTENT, OK
from tests.fake_layers import LAYER_BYTES, LayeredCloud
from tests.fake_world import World


class Baker:
    """A user who bakes recipes of a few steps, written `name=text`; `events` holds the events of the last bake."""

    def __init__(self, cloud: FakeCloud) -> None:
        self.cloud = cloud
        self.home = Path(os.environ["BAKEHOUSE_HOME"])
        self.events: list[Event] = []

    def recipe(self, *steps: str, disk_gb: int = 10) -> Recipe:
        made = tuple(_step(*step.partition("=")[::2]) for step in steps)
        return Recipe(name="tiny", folder=self.home, steps=made, builder=Builder(disk_gb=disk_gb))

    def bake(self, *steps: str, disk_gb: int = 10, **options: bool | str) -> Baked:
        self.events = []
        recipe = self.recipe(*steps, disk_gb=disk_gb)
        return bake(self.cloud, recipe, BakeOptions(**options), home=self.home, on_event=self.events.append)  # type: ignore[arg-type]

    @property
    def run(self) -> list[str]:
        """The steps that the last bake has run."""
        stages = ("stop", "snapshot", "inspect", "test")
        return [event.name for event in self.events if isinstance(event, StepEnded) and event.name not in stages]

    @property
    def told(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Note))

    def content(self, baked: Baked) -> list[str]:
        """Return which steps have made an image."""
        return self.cloud.world.images[baked.image].disk[CONTENT].decode().splitlines()


def _step(name: str, text: str) -> Step:
    return Step(name=name, apt=(text.removeprefix("apt "),)) if text.startswith("apt ") else Step(name=name, run=text)


@pytest.fixture
def baker(world: World) -> Baker:
    return Baker(LayeredCloud(world))


def kept(world: World) -> list[str]:
    return [one.layer.step for one in world.layers.values()]


def test_each_checkpoint_but_the_last_is_kept(baker: Baker, world: World) -> None:
    baker.bake("a=1", "b=1")
    assert baker.run == ["boot", "prepare", "a", "b", "seal"]
    assert kept(world) == ["boot", "prepare", "a", "b"]


def test_only_what_has_changed_and_what_is_behind_it_runs_again(baker: Baker) -> None:
    baker.bake("a=1", "b=1", "c=1")
    baker.bake("a=1", "b=2", "c=1")
    assert baker.run == ["b", "c", "seal"]
    assert "reusing the layer last used 20" in baker.told
    assert ": boot, prepare, a; starting at step 'b': it differs from the layer last used 20" in baker.told


def test_an_image_of_layers_holds_what_one_without_holds(baker: Baker, tmp_path: Path) -> None:
    baker.bake("a=1", "b=1")
    mended = baker.content(baker.bake("a=1", "new=1", "b=1"))
    alone = Baker(FakeCloud(World(tmp_path / "alone")))
    assert mended == alone.content(alone.bake("a=1", "new=1", "b=1"))
    assert [line.split()[0] for line in mended] == ["prepare", "a", "new", "b"]


def test_a_step_that_failed_is_where_the_next_bake_goes_on(baker: Baker, world: World) -> None:
    baker.cloud.guest("bake-*", fake_guest.fails_at("b"), OK)
    with pytest.raises(StepFailedError) as raised:
        baker.bake("a=1", "b=1")
    assert "Fix the step and bake again; finished steps are reused; " in raised.value.next_step
    assert world.inventory() == []
    baker.bake("a=1", "b=2")
    assert baker.run == ["b", "seal"]


def test_without_layers_a_failed_step_promises_nothing(world: World) -> None:
    baker = Baker(FakeCloud(world))
    baker.cloud.guest("bake-*", fake_guest.fails_at("a"))
    with pytest.raises(StepFailedError) as raised:
        baker.bake("a=1")
    assert "goes on" not in raised.value.next_step


def test_layers_are_kept_for_builders_of_each_shape(baker: Baker, world: World) -> None:
    baker.bake("a=1", "b=1", disk_gb=20)
    baker.bake("a=1", "b=1", disk_gb=10)
    assert baker.run == ["boot", "prepare", "a", "b", "seal"]
    assert len(kept(world)) == 8
    baker.bake("a=1", "b=2", disk_gb=10)
    assert baker.run == ["b", "seal"]
    assert len(kept(world)) == 9


def test_the_seconds_of_keeping_layers_are_a_stage(baker: Baker) -> None:
    baked = baker.bake("a=1")
    result = json.loads((baker.home / "bakes" / baked.id / "result.json").read_text())
    assert result["seconds"].keys() >= {"boot", "prepare", "a", "seal", "layers"}
    assert result["seconds"]["layers"] < baked.seconds


@pytest.mark.parametrize("options", [{"no_cache": True}, {"from_step": "prepare"}])
def test_all_is_done_anew_on_demand_but_the_boot(baker: Baker, options: dict[str, bool | str]) -> None:
    first = baker.bake("a=1", "b=1")
    again = baker.bake("a=1", "b=1", **options)
    assert not again.reused
    assert baker.run == ["prepare", "a", "b", "seal"]
    assert again.image != first.image


def test_what_was_done_anew_on_demand_is_what_the_next_bake_reuses(baker: Baker, world: World) -> None:
    """Packages have changed without a trace in the recipe: the old ones must not come back from an old layer."""
    baker.bake("a=apt x", "b=1", "c=1")
    world.archive += 1
    baker.bake("a=apt x", "b=1", "c=1", from_step="a")
    assert baker.run == ["a", "b", "c", "seal"]
    after = baker.content(baker.bake("a=apt x", "b=1", "c=2"))
    assert baker.run == ["c", "seal"]
    assert after[1].endswith("with packages 2")
    assert len(kept(world)) == 6


def test_what_was_done_anew_is_reused_although_a_kept_builder_holds_the_old_layer(baker: Baker, world: World) -> None:
    baker.cloud.guest("bake-*", fake_guest.fails_at("c"), OK)
    with pytest.raises(StepFailedError):
        baker.bake("a=apt x", "b=1", "c=1", keep=True)
    world.archive += 1
    baker.bake("a=apt x", "b=1", "c=1", from_step="a")
    assert "the layer of step 'a' is kept: another bake uses it" in baker.told
    after = baker.content(baker.bake("a=apt x", "b=1", "c=2"))
    assert after[1].endswith("with packages 2")


def test_what_follows_from_a_step_that_could_not_be_kept_is_forgotten_with_it(baker: Baker, world: World) -> None:
    baker.cloud.fault("keep_layer", error=CloudError("no room"), nth=3)
    baker.bake("a=apt x", "b=1", "c=1")
    world.archive += 1
    baker.bake("a=apt x", "b=2", "c=1", from_step="a")
    after = baker.content(baker.bake("a=apt x", "b=1", "c=2"))
    assert after[1].endswith("with packages 2")


def test_a_step_that_there_is_not_is_told_before_anything_is_done(baker: Baker) -> None:
    with pytest.raises(UsageError, match="--from: unknown step 'c'"):
        baker.bake("a=1", "b=1", from_step="c")
    assert baker.cloud.calls == []


def test_a_builder_that_dies_on_a_layer_is_started_there_once_more(baker: Baker) -> None:
    baker.bake("a=1", "b=1")
    baker.cloud.guest("bake-*", fake_guest.dies_at(), OK)
    baker.bake("a=1", "b=2")
    assert baker.run == ["b", "seal"]
    assert baker.told.endswith("starting it once more")


def test_a_layer_from_which_nothing_comes_up_is_removed_and_the_base_taken(baker: Baker, world: World) -> None:
    baker.bake("a=1", "b=1")
    [_, _, last, _] = world.layers
    baker.cloud.guest("bake-*", fake_guest.panics_at(), fake_guest.panics_at(), OK)
    world.layers.popitem()
    baker.bake("a=1", "b=2")
    assert baker.run == ["boot", "prepare", "a", "b", "seal"]
    assert "starting it once more, from the base" in baker.told
    assert last not in world.layers
    assert sorted(kept(world)) == ["a", "b", "boot", "prepare"]


def test_a_builder_that_dies_in_a_step_behind_a_layer_is_not_started_again(baker: Baker) -> None:
    baker.bake("a=1", "b=1")
    baker.cloud.guest("bake-*", fake_guest.panics_at("b"))
    with pytest.raises(KernelPanicError, match="current step: 'b'"):
        baker.bake("a=1", "b=2")


@pytest.mark.parametrize("error", [RestoreError("it did not respond"), NotFoundError("layer not found")])
def test_a_layer_that_cannot_be_restored_or_is_gone_falls_back_to_the_base(baker: Baker, error: CloudError) -> None:
    class Damaged(LayeredCloud):
        def boot(self, spec: BootSpec) -> Ticket:
            if spec.source.startswith("layer-"):
                raise error
            return super().boot(spec)

    baker.bake("a=1", "b=1")
    baker.cloud = Damaged(baker.cloud.world)
    baker.bake("a=1", "b=2")
    assert baker.run == ["boot", "prepare", "a", "b", "seal"]
    assert error.message in baker.told


def test_a_base_that_is_gone_is_told_at_once(baker: Baker) -> None:
    baker.cloud.fault("boot", error=NotFoundError("base not found"))
    with pytest.raises(NotFoundError):
        baker.bake("a=1")


def test_a_layer_that_cannot_be_kept_is_told_and_the_bake_goes_on(baker: Baker, world: World) -> None:
    baker.cloud.fault("keep_layer", error=CloudError("no room"), nth=3)
    baker.bake("a=1", "b=1")
    assert "could not save the layer of step 'a': no room" in baker.told
    assert kept(world) == ["boot", "prepare", "b"]


def test_a_builder_that_does_not_go_on_is_told_as_such(baker: Baker, world: World) -> None:
    baker.cloud.fault("go_on", error=TimedOutError("no answer"))
    with pytest.raises(BuilderSilentError, match="did not continue after step 'boot': no answer"):
        baker.bake("a=1")
    assert world.inventory() == []


def test_after_a_bake_the_layers_that_were_used_longest_ago_go(baker: Baker, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", str(4 * LAYER_BYTES / 1e9))
    baker.bake("a=1", "b=1")
    baker.bake("a=1", "b=2")
    assert kept(world) == ["boot", "prepare", "a", "b"]
    baker.bake("a=1", "b=3")
    assert baker.run == ["b", "seal"]


def test_after_a_bake_that_failed_they_go_too(baker: Baker, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", str(3 * LAYER_BYTES / 1e9))
    baker.cloud.guest("bake-*", *[fake_guest.fails_at("b")] * 3, OK)
    for number in range(3):
        with pytest.raises(StepFailedError):
            baker.bake(f"a={number}", "b=1")
        assert kept(world) == ["boot", "prepare", "a"]
    baker.bake("a=2", "b=2")
    assert baker.run[0] == "b"


def test_a_bake_that_was_interrupted_removes_no_layers(baker: Baker, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "0")
    baker.cloud.fault("go_on", error=interrupt, nth=3)
    with pytest.raises(KeyboardInterrupt):
        baker.bake("a=1")
    assert kept(world) == ["boot", "prepare", "a"]


@pytest.mark.parametrize("error", [CloudError("busy"), TimedOutError("too slow"), OSError("odd")])
def test_why_a_bake_failed_is_told_although_old_layers_cannot_be_removed(
    baker: Baker, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "0")
    baker.cloud.guest("bake-*", fake_guest.fails_at("a"))
    baker.cloud.fault("remove_layer", error=error)
    with pytest.raises(StepFailedError):
        baker.bake("a=1")


def test_an_image_is_there_although_old_layers_cannot_be_removed(baker: Baker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "0")
    baker.cloud.fault("remove_layer", error=CloudError("busy"))
    assert baker.bake("a=1").version
    assert "could not remove old layers: busy" in baker.told


def test_a_limit_that_is_no_size_is_told_before_anything_is_done(baker: Baker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAKEHOUSE_LAYERS_GB", "much")
    with pytest.raises(UsageError, match="BAKEHOUSE_LAYERS_GB: 'much' is not a number of GB"):
        baker.bake("a=1")
    assert baker.cloud.calls == []


def test_a_plan_explains_each_step_and_does_nothing(baker: Baker, world: World) -> None:
    baker.cloud.guest("bake-*", fake_guest.fails_at("b"))
    with pytest.raises(StepFailedError):
        baker.bake("a=1", "b=1")
    before = list(world.layers)
    lines = [line.strip() for line in plan(baker.cloud, baker.recipe("a=1", "b=2", "c=1"), home=baker.home)]
    found = dict(line.removeprefix("step ").split(": ", 1) for line in lines if line.startswith("step "))
    assert found["a"].startswith("reused: layer last used 20")
    assert found["b"] == "runs: no cached layer"
    assert found["c"] == "runs: an earlier step runs"
    assert found["seal"] == "runs: last step of every bake"
    assert (list(world.layers), world.inventory()) == (before, [])


# On a cloud that keeps images alone


@pytest.fixture
def imager(world: World) -> Baker:
    return Baker(FakeCloud(world))


def sources(world: World, cloud: FakeCloud) -> list[str]:
    """Return what the builders of a cloud start from, from now on."""
    found: list[str] = []
    cloud.fault("boot", when="after", nth=None, error=lambda: found.extend(_new_sources(world)))
    return found


def _new_sources(world: World) -> list[str]:
    return [machine.spec.source for name, machine in world.machines.items() if names.is_bake_id(name)]


def test_a_recipe_that_has_grown_starts_from_its_image(imager: Baker, world: World) -> None:
    first = imager.bake("a=1")
    found = sources(world, imager.cloud)
    grown = imager.bake("a=1", "b=1", "c=1")
    assert found[0] == first.image
    assert imager.run == ["b", "c", "seal"]
    assert f"reusing image {first.image}: boot, prepare, a; starting at step 'b'" in imager.told
    assert [line.split()[0] for line in imager.content(grown)] == ["prepare", "a", "b", "c"]


def test_image_that_a_builder_starts_from_is_in_use(imager: Baker, world: World) -> None:
    first = imager.bake("a=1")
    used: list[str] = []
    imager.cloud.fault("boot", when="after", error=lambda: used.extend(users(FakeCloud(world), first.image)))
    second = imager.bake("a=1", "b=1")
    assert used == [second.id]


def test_the_image_that_holds_most_is_taken_and_of_those_the_newest(imager: Baker, world: World) -> None:
    imager.bake("a=1")
    imager.bake("a=1", "b=1")
    newest = imager.bake("a=1", "b=1", force=True)
    assert imager.run == ["seal"]
    found = sources(world, imager.cloud)
    imager.bake("a=1", "b=1", "c=1")
    assert found[0] == newest.image


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda image: image.labels.update(state="candidate"), "not tested"),
        (lambda image: image.labels.update(state="deprecated"), "put out of use"),
        (lambda image: setattr(image, "state", State.PENDING), "not finished"),
        (lambda image: image.labels.update(owner="somebody"), "not ours"),
        (lambda image: image.labels.update({"built-gb": "11"}), "its disk is larger than the builder's"),
        (lambda image: image.labels.update(chain="0" * 32), "made of something else"),
        (lambda image: image.labels.pop("chain"), "of an older release"),
    ],
)
def test_an_image_that_does_not_fit_is_not_taken(imager: Baker, world: World, change: Callable[..., object], why: str) -> None:
    first = imager.bake("a=1")
    change(world.images[first.image])
    imager.bake("a=1", "b=1")
    assert imager.run == ["boot", "prepare", "a", "b", "seal"], why


@pytest.mark.parametrize("options", [{"no_cache": True}, {"from_step": "a"}])
def test_no_image_is_taken_on_demand(imager: Baker, options: dict[str, bool | str]) -> None:
    imager.bake("a=1")
    imager.bake("a=1", **options)
    assert imager.run == ["boot", "prepare", "a", "seal"]


def test_a_plan_names_the_image(imager: Baker) -> None:
    first = imager.bake("a=1")
    lines = plan(imager.cloud, imager.recipe("a=1", "b=1"), home=imager.home)
    assert f"  step a: reused: in image {first.image}" in lines
    assert "  step b: runs: no tested image ends with it" in lines
