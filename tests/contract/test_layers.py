"""What every cloud does alike that can freeze the disk of a builder at each checkpoint; name such a cloud in KEEPING.

The steps of the builders here add a line each to one file, which begins with their name: an image tells which have made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bakery.cache import KEEP_S
from bakery.script.render import Part, Script, frame
from clouds import names
from clouds.capabilities import KeepsLayers, Layer, ReadsDisks
from clouds.driver import BootSpec, Cloud, Kind
from clouds.errors import NotFoundError
from clouds.lifecycle import is_running, settle, stop_machine
from tests.contract.bench import Bench
from tests.fake_guest import CONTENT

KEEPING = ["layered", pytest.param("local", marks=pytest.mark.vm)]
pytestmark = pytest.mark.parametrize("bench", KEEPING, indirect=True, scope="package")

ABSENT = "layer-000000000000-00000000"


@dataclass(frozen=True, slots=True)
class Builder:
    """A builder and the steps that it is to run behind `boot`."""

    spec: BootSpec
    script: Script
    nonce: str

    @property
    def name(self) -> str:
        return self.spec.name

    def script_after(self, done: int) -> str:
        """Return the script for the builder, which has that many checkpoints behind it."""
        return self.script.for_boot(self.nonce, deadline_s=0, done=done)


@dataclass(frozen=True, slots=True)
class Yard:
    """A cloud on which builders work in layers; those of this test have keys that begin with `run`."""

    bench: Bench
    cloud: Cloud
    keeper: KeepsLayers
    run: str

    def boot(self, *steps: str, source: str = "", done: int = 0, more_gb: int = 0) -> Builder:
        """Start a builder, from a layer when one is given, in which that many checkpoints are done."""
        parts = [Part(step, f"echo {step} >>{CONTENT}\n") for step in steps]
        script, nonce = frame("Contract", [*parts, Part("end", "sync\n")], is_bake=True), names.new_nonce()
        filled = script.for_boot(nonce, deadline_s=0, done=done)
        spec = self.bench.spec(source)
        spec = replace(spec, disk_gb=spec.disk_gb + more_gb, script=filled, ports=(), build_settings=True)
        settle(self.cloud, self.cloud.boot(spec))
        return Builder(spec, script, nonce)

    def keep(self, builder: Builder, step: str) -> None:
        """Keep a layer of a builder that waits, or is about to."""
        checkpoints = ["", *builder.script.checkpoints]
        before = checkpoints[checkpoints.index(step) - 1]
        parent = self.key(before) if before else ""
        ticket = self.keeper.keep_layer(builder.name, key=self.key(step), parent=parent, step=step, own=f"{step} alone")
        settle(self.cloud, ticket, timeout_s=KEEP_S)

    def go_on(self, builder: Builder, done: int) -> None:
        """Let a builder go on that waits, or is about to, with that many checkpoints behind it."""
        settle(self.cloud, self.keeper.go_on(builder.name, builder.script_after(done)), timeout_s=KEEP_S)

    def finish(self, builder: Builder, image: str) -> str:
        """Let a builder that waits at its last checkpoint but one end its work; return the image of its disk."""
        checkpoints = builder.script.checkpoints
        self.go_on(builder, len(checkpoints) - 1)
        self.bench.await_script(builder.name, builder.nonce, checkpoints=checkpoints)
        stop_machine(self.cloud, builder.name)
        name = f"{image}-1.0-{int(self.run[:6], 16)}"
        settle(self.cloud, self.cloud.snapshot(builder.name, name, {**self.bench.labels, "version": "1.0-1"}), timeout_s=300)
        return name

    def key(self, step: str) -> str:
        return f"{self.run[:20]}-{step}"

    def layers(self) -> list[Layer]:
        """Return the layers of this test, the one that was used longest ago first."""
        return [layer for layer in self.keeper.layers() if layer.key.startswith(self.run[:20])]

    def layer(self, step: str) -> Layer:
        [found] = [layer for layer in self.layers() if layer.key == self.key(step)]
        return found

    def steps_in(self, image: str, scratch: Path) -> list[str]:
        """Return which steps have made the disk of an image."""
        assert isinstance(self.cloud, ReadsDisks)
        scratch.mkdir()
        content = self.cloud.files(image, scratch).read([CONTENT])[CONTENT]
        return [line.split()[0] for line in content.decode().splitlines()]


@pytest.fixture(scope="module")
def yard(bench: Bench) -> Iterator[Yard]:
    """Give the cloud, and leave no layer on it."""
    assert isinstance(bench.cloud, KeepsLayers)
    run = names.new_nonce()
    own = replace(bench, labels={**bench.labels, "layers": run})
    made = Yard(own, own.cloud, own.cloud, run)
    yield made
    own.remove_all()
    while any(made.keeper.remove_layer(layer.id) for layer in made.layers()):
        continue
    assert made.layers() == []


@pytest.fixture(scope="module")
def first(yard: Yard) -> Builder:
    """Give a builder of which the layers `boot` and `one` were kept, and which has run the step `two` since."""
    builder = yard.boot("one", "two")
    yard.keep(builder, "boot")
    yard.go_on(builder, done=1)
    yard.keep(builder, "one")
    yard.go_on(builder, done=2)
    return builder


@pytest.fixture(scope="module")
def second(yard: Yard, first: Builder) -> Builder:
    """Give a builder from the layer `one`, which has run the step `other` since."""
    assert is_running(yard.cloud, first.name)
    return yard.boot("one", "other", source=yard.layer("one").id, done=2)


@pytest.fixture(scope="module")
def images(yard: Yard, first: Builder, second: Builder) -> dict[str, str]:
    """Give the images of the two, and of a third builder that was started from the layer `one` when the second had ended.

    The third one has a larger disk; a layer is kept of it.
    """
    done = {"second": yard.finish(second, "second")}
    third = yard.boot("one", "third", source=yard.layer("one").id, done=2, more_gb=1)
    yard.keep(third, "third")
    return {**done, "third": yard.finish(third, "third"), "first": yard.finish(first, "first")}


def test_layers_are_listed_with_what_was_said_of_them(yard: Yard, first: Builder) -> None:
    boot, one = yard.layer("boot"), yard.layer("one")
    assert (boot.step, boot.own, boot.parent) == ("boot", "boot alone", "")
    assert (one.step, one.own, one.parent) == ("one", "one alone", boot.key)
    assert boot.id != one.id
    assert {layer.disk_gb for layer in yard.layers()} == {first.spec.disk_gb}
    assert all(layer.size_bytes > 0 for layer in yard.layers())


def test_the_layer_from_which_a_builder_has_started_is_the_one_used_last(yard: Yard, second: Builder) -> None:
    assert second.spec.source == yard.layer("one").id
    before = [layer.step for layer in yard.layers()]
    late = yard.boot("late", source=yard.layer("boot").id, done=1)
    settle(yard.cloud, yard.cloud.delete(Kind.MACHINE, late.name))
    assert (before, [layer.step for layer in yard.layers()]) == (["boot", "one"], ["one", "boot"])


def test_a_layer_stays_while_a_builder_or_another_layer_needs_it(yard: Yard, second: Builder) -> None:
    assert is_running(yard.cloud, second.name)
    assert yard.keeper.remove_layer(yard.layer("one").id) is False
    assert yard.keeper.remove_layer(yard.layer("boot").id) is False
    assert {layer.step for layer in yard.layers()} == {"boot", "one"}


def test_a_builder_may_have_a_larger_disk_than_its_layer(yard: Yard, first: Builder, images: dict[str, str]) -> None:
    assert images
    third = yard.layer("third")
    assert (third.parent, third.disk_gb) == (yard.layer("one").key, first.spec.disk_gb + 1)


@pytest.mark.parametrize(
    ("builder", "steps"), {"first": ["one", "two"], "second": ["one", "other"], "third": ["one", "third"]}.items()
)
def test_a_builder_has_what_was_done_before_its_layer_and_nothing_that_others_did_after(
    yard: Yard, images: dict[str, str], builder: str, steps: list[str], tmp_path: Path
) -> None:
    assert yard.steps_in(images[builder], tmp_path / "scratch") == steps


def test_layers_that_nothing_needs_go_and_an_image_never_needed_them(yard: Yard, images: dict[str, str], tmp_path: Path) -> None:
    for machine in yard.cloud.owned(yard.bench.labels, {Kind.MACHINE}):
        settle(yard.cloud, yard.cloud.delete(Kind.MACHINE, machine.name))
    boot, one, third = (yard.layer(step) for step in ("boot", "one", "third"))
    assert [yard.keeper.remove_layer(layer.id) for layer in (third, one, boot)] == [True, True, True]
    assert yard.layers() == []
    assert yard.steps_in(images["second"], tmp_path / "scratch") == ["one", "other"]
    spec = yard.bench.spec(images["second"])
    yard.bench.boot(spec)  # its disk was read above; that images boot is shown by test_contract
    assert is_running(yard.cloud, spec.name)
    with pytest.raises(NotFoundError, match=one.id):
        yard.boot("late", source=one.id, done=2)


def test_removing_a_layer_that_is_not_there_is_a_success(yard: Yard) -> None:
    assert yard.keeper.remove_layer(ABSENT) is True


def test_starting_from_a_layer_that_is_not_there_is_not_found_and_makes_nothing(yard: Yard) -> None:
    before = yard.cloud.owned(yard.bench.labels)
    with pytest.raises(NotFoundError, match=ABSENT):
        yard.boot("late", source=ABSENT, done=1)
    assert yard.cloud.owned(yard.bench.labels) == before


def test_keeping_a_layer_of_a_machine_that_is_not_there_is_not_found(yard: Yard) -> None:
    with pytest.raises(NotFoundError, match="contract-nosuch"):
        settle(yard.cloud, yard.keeper.keep_layer("contract-nosuch", key="0", parent="", step="boot", own="0"))


def test_letting_a_machine_go_on_that_is_not_there_is_not_found(yard: Yard) -> None:
    with pytest.raises(NotFoundError, match="contract-nosuch"):
        settle(yard.cloud, yard.keeper.go_on("contract-nosuch", "true"))
