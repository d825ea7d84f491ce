"""After any change of a recipe and its layers, an image equals that of a bake without layers, and no step runs needlessly."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bakery.bake import bake
from bakery.errors import StepFailedError
from bakery.order import BakeOptions
from bakery.recipe.recipe import Recipe, Step
from bakery.script.render import render
from bakery.script.resolve import resolve
from launcher.cached_layers import prune
from tests.fake_cloud import Killed
from tests.fake_guest import CONTENT, OK, content_of, fails_at
from tests.fake_layers import LAYER_BYTES, LayeredCloud
from tests.fake_world import World
from tests.matrix import examples

numbers = st.integers(0, 5)


@dataclass
class Kitchen:
    """A recipe under way, the cloud that bakes it, and what is to happen in the next bake."""

    home: Path
    world: World
    recipe: Recipe
    made: int = 0
    options: BakeOptions = field(default_factory=BakeOptions)

    def edit(self, change: Callable[[list[Step]], object]) -> None:
        steps = list(self.recipe.steps)
        change(steps)
        self.recipe = replace(self.recipe, steps=tuple(steps))

    def new_text(self) -> str:
        self.made += 1
        return f"echo {self.made}"

    def wanted(self) -> list[str]:
        """Return what each step but the last leaves in a bake that reuses nothing."""
        parts = render(self.recipe, resolve(self.recipe, self.home / "resolved", refresh=False)).parts
        return [content_of(part.name, part.text, self.world.archive) for part in parts[:-1]]

    def bake(self, cloud: LayeredCloud) -> None:
        """Bake, perhaps not to the end; what is done and what comes of it must be right."""
        options, self.options = self.options, BakeOptions()
        wanted, base = self.wanted(), f"base-trixie-amd64-{self.world.base_serial}"
        reusable = self.reusable(wanted, base, options)
        before = set((self.home / "bakes").glob("*"))
        try:
            baked = bake(cloud, self.recipe, options, home=self.home)
        except (StepFailedError, Killed):
            baked = None
        for folder in set((self.home / "bakes").glob("*")) - before:
            log = (folder / "steps.log").read_text() if (folder / "steps.log").exists() else ""
            done = [line.split()[2] for line in log.splitlines() if line.startswith("=== ") and not line.endswith(" boot")]
            expected = [*(line.split()[0] for line in wanted[reusable:]), "seal"]
            assert done == (expected if baked else expected[: len(done)])
        if baked:
            disk = self.world.images[baked.image].disk
            assert disk[CONTENT].decode().splitlines() == wanted
            assert disk["/usr/lib/os-release"] == f"ID=debian\nBUILD_ID={base}\n".encode()

    def reusable(self, wanted: list[str], base: str, options: BakeOptions) -> int:
        """Return how many of the steps are on the disk of some layer, and may be taken from there."""
        disks = [kept.disk for kept in self.world.layers.values() if f"={base}\n".encode() in kept.disk["/usr/lib/os-release"]]
        contents = [disk.get(CONTENT, b"").decode().splitlines() for disk in disks]
        most = max([len(lines) for lines in contents if lines == wanted[: len(lines)]], default=0)
        names = [line.split()[0] for line in wanted]
        if options.from_step:
            most = min(most, names.index(options.from_step))
        return 0 if options.no_cache else most


Event = Callable[[Kitchen, LayeredCloud], object]


def change(at: int, *, packages: bool) -> Event:
    def event(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
        def put(steps: list[Step]) -> None:
            name = steps[at % len(steps)].name
            text = kitchen.new_text()
            steps[at % len(steps)] = Step(name=name, apt=(text.split()[1],)) if packages else Step(name=name, run=text)

        kitchen.edit(put)

    return event


def insert(at: int) -> Event:
    def event(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
        text = kitchen.new_text()
        kitchen.edit(lambda steps: steps.insert(at, Step(name=f"new-{kitchen.made}", run=text)))

    return event


def drop(at: int) -> Event:
    return lambda kitchen, _: kitchen.edit(lambda steps: steps.pop(at % len(steps)) if len(steps) > 1 else None)


def rename(at: int) -> Event:
    def event(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
        kitchen.made += 1
        steps = list(kitchen.recipe.steps)
        steps[at % len(steps)] = replace(steps[at % len(steps)], name=f"other-{kitchen.made}")
        kitchen.recipe = replace(kitchen.recipe, steps=tuple(steps))

    return event


def move(at: int) -> Event:
    return lambda kitchen, _: kitchen.edit(lambda steps: steps.append(steps.pop(at % len(steps))))


def new_base(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
    kitchen.world.base_serial += 1


def refresh(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
    """Resolve again after newer packages appeared; the base stays, since a new one would change every key."""
    kitchen.world.archive += 1
    resolve(kitchen.recipe, kitchen.home / "resolved", refresh=True)


def no_cache(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
    kitchen.options = BakeOptions(no_cache=True)


def from_step(at: int) -> Event:
    def event(kitchen: Kitchen, _cloud: LayeredCloud) -> None:
        kitchen.options = BakeOptions(from_step=kitchen.recipe.steps[at % len(kitchen.recipe.steps)].name)

    return event


def fail(at: int) -> Event:
    return lambda kitchen, cloud: cloud.guest("bake-*", fails_at(kitchen.recipe.steps[at % len(kitchen.recipe.steps)].name), OK)


def kill(operation: str, at: int) -> Event:
    return lambda _, cloud: cloud.fault(operation, when="after" if at % 2 else "before", error=Killed(), nth=at // 2 + 1)


def collect(kept: int) -> Event:
    return lambda _, cloud: prune(cloud, kept * LAYER_BYTES)


events = st.one_of(
    st.builds(change, numbers, packages=st.booleans()),
    st.builds(insert, st.integers(0, 3)),
    st.builds(drop, numbers),
    st.builds(rename, numbers),
    st.builds(move, numbers),
    st.sampled_from([new_base, refresh, no_cache]),
    st.builds(from_step, numbers),
    st.builds(fail, numbers),
    st.builds(kill, st.sampled_from(["boot", "keep_layer", "go_on"]), numbers),
    st.builds(collect, numbers),
)


@settings(max_examples=examples(20))
@given(happening=st.lists(events, min_size=1, max_size=5))
def test_layers_change_nothing_but_the_time(happening: list[Event]) -> None:
    home = Path(os.environ["BAKEHOUSE_HOME"])
    with tempfile.TemporaryDirectory() as folder:
        steps = (Step(name="a", run="echo a"), Step(name="b", apt=("b",)), Step(name="c", run="echo c"))
        kitchen = Kitchen(home, World(Path(folder)), Recipe(name="tiny", folder=Path(folder), steps=steps))
        for event in [None, *happening]:
            cloud = LayeredCloud(kitchen.world)
            if event:
                event(kitchen, cloud)
            kitchen.bake(cloud)
