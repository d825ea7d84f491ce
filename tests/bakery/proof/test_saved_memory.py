"""The stage of a bake that gives its image a memory, and what becomes of the image when it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.bake import Baked, bake
from bakery.errors import TestsFailedError
from bakery.events import Event, Note
from bakery.order import BakeOptions
from bakery.recipe.recipe import Recipe, Step, Test
from clouds.errors import CloudError, HostFullError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud
from tests.fake_guest import OK, Guest, dies_at, panics_at
from tests.fake_memory import MemoryCloud


def bake_tiny(cloud: FakeCloud, told: list[str] | None = None) -> Baked:
    """Bake a small recipe with a notebook; its notes are appended to `told`."""

    def hear(event: Event) -> None:
        if isinstance(event, Note) and told is not None:
            told.append(event.text)

    recipe = Recipe(name="tiny", folder=Path(), steps=(Step(name="first", run="true"),), tests=(Test(name="works", run="true"),))
    return bake(cloud, recipe, BakeOptions(), home=home(), on_event=hear)


def seconds() -> dict[str, float]:
    """Return the seconds of the only bake, as they are kept."""
    (record,) = (home() / "bakes").glob("*/result.json")
    kept: dict[str, float] = json.loads(record.read_text())["seconds"]
    return kept


def made(cloud: FakeCloud) -> list[str]:
    """Return by which calls machines were made, and when an image got its memory."""
    return [call.split("-")[0] for call in cloud.calls if call.split()[0] in ("boot", "restore", "freeze")]


def test_image_gets_a_memory_and_is_tested_on_a_machine_that_goes_on_from_it(keeping: MemoryCloud) -> None:
    baked = bake_tiny(keeping)
    assert made(keeping) == ["boot bake", "boot test", "freeze tiny", "restore test"]
    assert keeping.world.inventory() == [f"image {baked.image} ready"]
    assert keeping.world.images[baked.image].memory_of
    names = list(seconds())
    assert names.index("inspect") < names.index("memory") < names.index("test works")


def test_machine_to_be_frozen_is_nobody_and_has_the_shape_of_the_image(keeping: MemoryCloud) -> None:
    spec = keeping.world.images[bake_tiny(keeping).image].memory_of
    assert spec
    assert set(spec.facts) == {"NONCE", "FREEZE"}
    assert (spec.freezes, spec.ports, spec.script) == (True, (), "")
    machine = Recipe(name="tiny", folder=Path()).machine
    assert (spec.cpus, spec.memory_mb, spec.disk_gb) == (machine.cpus, machine.memory_mb, machine.disk_gb)
    assert spec.labels["role"] == "test"
    assert spec.deadline_s > 0


def test_cloud_without_memory_has_no_such_stage(fake: FakeCloud) -> None:
    bake_tiny(fake)
    assert made(fake) == ["boot bake", "boot test"]
    assert "memory" not in seconds()


def test_machine_that_dies_at_boot_is_started_once_more_and_that_is_told(keeping: MemoryCloud) -> None:
    told: list[str] = []
    keeping.guest("test-*-memory", panics_at(), OK)
    bake_tiny(keeping, told)
    assert made(keeping).count("freeze tiny") == 1
    assert any("kernel panic" in line and line.endswith("starting it once more") for line in told)


@pytest.mark.parametrize(("guest", "told"), [(dies_at(), "powered off while it was starting"), (panics_at(), "kernel panic")])
def test_image_no_machine_of_which_comes_up_stays_a_candidate_without_memory(keeping: MemoryCloud, guest: Guest, told: str) -> None:
    keeping.guest("test-*-memory", guest)
    with pytest.raises(TestsFailedError, match=f"image 'tiny-.*{told}") as raised:
        bake_tiny(keeping)
    assert "is kept as a candidate" in raised.value.next_step
    ((name, image),) = keeping.world.images.items()
    assert (image.labels["role"], image.labels["state"], image.memory_of) == ("image", "candidate", None)
    assert keeping.world.inventory() == [f"image {name} ready"]


def test_memory_that_cannot_be_kept_is_told_and_the_machine_that_tests_boots(keeping: MemoryCloud) -> None:
    told: list[str] = []
    keeping.fault("freeze", error=CloudError("too many devices"))
    baked = bake_tiny(keeping, told)
    assert made(keeping) == ["boot bake", "boot test", "freeze tiny", "boot test"]
    image = keeping.world.images[baked.image]
    assert (image.labels["state"], image.memory_of) == ("stable", None)
    assert any("could not save its memory" in line and "too many devices" in line for line in told)


def test_full_disk_is_not_the_images_fault(keeping: MemoryCloud) -> None:
    keeping.fault("freeze", error=HostFullError("no room"))
    with pytest.raises(HostFullError):
        bake_tiny(keeping)
    assert keeping.world.inventory() == []


def test_machine_under_test_that_does_not_go_on_is_booted_and_that_is_a_note(keeping: MemoryCloud) -> None:
    told: list[str] = []
    keeping.awakening = "refused"
    baked = bake_tiny(keeping, told)
    assert keeping.world.images[baked.image].labels["state"] == "stable"
    assert any(line.endswith("has not come to itself; booting it from disk") for line in told)


def other_qemu(cloud: MemoryCloud, image: str) -> None:
    """Let the memory of an image be one that fits no machine of this computer."""
    memory_of = cloud.world.images[image].memory_of
    assert memory_of
    cloud.world.images[image].memory_of = replace(memory_of, cpus=memory_of.cpus + 1)


def test_memory_that_fits_no_more_is_saved_anew_and_nothing_is_baked(keeping: MemoryCloud) -> None:
    first, told = bake_tiny(keeping), list[str]()
    other_qemu(keeping, first.image)
    keeping.calls.clear()
    again = bake_tiny(keeping, told)
    assert (again.image, again.reused) == (first.image, True)
    assert made(keeping) == ["boot test", "freeze tiny"]
    assert any("was frozen with 3; saving it again" in line for line in told)
    keeping.calls.clear()
    bake_tiny(keeping)
    assert made(keeping) == []
    assert keeping.world.inventory() == [f"image {first.image} ready"]


def test_memory_on_which_a_machine_depends_is_left_alone(keeping: MemoryCloud) -> None:
    first, told = bake_tiny(keeping), list[str]()
    launch(keeping, Ledger(home() / "ledger.sqlite3"), LaunchOptions(recipe="tiny", name="lab"))
    other_qemu(keeping, first.image)
    keeping.calls.clear()
    bake_tiny(keeping, told)
    assert made(keeping) == []
    assert any("delete lab and bake again" in line for line in told)
