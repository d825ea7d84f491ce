"""A plan says what would be done, and why, and does nothing."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.plan import describe_bake, describe_test, plan, why
from bakery.recipe.recipe import Copy, Recipe, Step, load
from bakery.script.render import digest, render, render_tests
from bakery.script.resolve import Resolution
from clouds import names
from clouds.catalogue import Image as Listed
from clouds.driver import Base, BaseImage, BootSpec, Kind, Limits, Resource, State, Tell
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_world import Image, World

BASE = BaseImage("base-1", "us", Base("trixie", "amd64"))


@pytest.fixture
def recipe() -> Recipe:
    return load("minimal")


def image(version: str, *, digest: str = "d", base: str = "base-1", state: str = names.STABLE) -> Listed:
    labels = {"recipe": "minimal", "role": "image", "version": version, "script": digest, "base": base, "state": state}
    return Listed(Resource(Kind.IMAGE, f"minimal-{version}", State.READY, labels | dict.fromkeys(names.SIZES, "2")))


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([image("0.1.0-1")], "nothing to do: minimal-0.1.0-1 has the same"),
        (
            [image("0.1.0-1", digest="e")],
            "would run: the recipe, its files, packages or tests, or Bakehouse itself, have changed since minimal-0.1.0-1",
        ),
        ([image("0.1.0-1", digest="e", base="base-0")], "would run: the base has changed since minimal-0.1.0-1"),
        ([image("0.1.0-1", state=names.CANDIDATE)], "would run: an image of the same content failed its tests"),
        (
            [image("0.1.0-1", digest="e", state=names.CANDIDATE)],
            "would run: all images are candidates; none has passed its tests",
        ),
        ([image("0.1.0-1"), image("0.1.0-2", digest="e")], "nothing to do: minimal-0.1.0-1"),
    ],
)
def test_it_says_why_a_bake_would_run_or_not(images: list[Listed], told: str) -> None:
    assert told in why(images, "minimal", "d", BASE)


LONG = "projects/debian-cloud/global/images/debian-13-trixie-v2026"


@pytest.mark.parametrize(
    ("label", "is_other"),
    [
        (names.base_label(f"{LONG}1111"), False),
        (names.base_label(f"{LONG}1014"), True),
        ("projects-debian-cloud-global-ima", False),  # as earlier releases cut it: it may be the same base
        ("projects-ubuntu-os-cloud-global-", True),
    ],
)
def test_newer_base_is_told_from_an_older_one_also_where_their_ids_are_long(label: str, *, is_other: bool) -> None:
    told = why([image("0.1.0-1", digest="e", base=label)], "minimal", "d", replace(BASE, id=f"{LONG}1111"))
    assert ("the base has changed" in told) == is_other


def test_label_of_a_short_base_id_is_that_of_earlier_releases() -> None:
    assert names.base_label("trixie-amd64-0123456789abcdef") == "trixie-amd64-0123456789abcdef"
    assert names.base_label(f"{LONG}1111") == names.label_value(names.base_label(f"{LONG}1111"))


def test_it_names_what_a_bake_would_create(recipe: Recipe) -> None:
    lines = "\n".join(describe_bake(recipe, "fake", "0.1.0-1"))
    assert "steps: prepare, seal" in lines
    assert "image minimal-0.1.0-1, a candidate at first" in lines
    assert "1024 MB of memory" in lines
    assert "whose memory is saved" not in "\n".join(describe_test(recipe, "0.1.0-1", keeps_memory=False))
    assert "whose memory is saved with the image" in "\n".join(describe_test(recipe, "0.1.0-1", keeps_memory=True))


def test_before_the_first_bake_there_is_nothing_to_launch(recipe: Recipe, tmp_path: Path) -> None:
    world = World(tmp_path)
    lines = plan(FakeCloud(world), recipe, home=tmp_path)
    assert lines[0] == "bake: would run: no image yet"
    assert "built first" not in "\n".join(lines)
    assert lines[-1] == f"launch: needs a bake first; then from minimal-{names.release()}-1"
    assert world.inventory() == []


def test_it_says_that_files_are_sent_over_ssh_and_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(random.Random(1).randbytes(2_000_000))
    copy = Copy(**{"from": "data", "to": "/opt/data"})
    recipe = Recipe(name="large", folder=tmp_path, steps=(Step(name="files", copy=(copy,)),))
    cloud = FakeCloud(World(tmp_path))
    assert "over SSH" not in "\n".join(plan(cloud, recipe, home=tmp_path))
    cloud.limits = Limits(script_bytes=256 * 1024)
    lines = plan(cloud, recipe, home=tmp_path)
    [sent] = [line for line in lines if "over SSH" in line]
    assert re.fullmatch(r"  script and files \(2\.\d MB\) are sent to the builder over SSH: fake accepts 256 KiB at boot", sent)
    assert "open_ssh" not in " ".join(cloud.calls)


def put_equal(cloud: FakeCloud, recipe: Recipe) -> Image:
    """Give a cloud the image that a bake of the recipe would make now."""
    base = cloud.resolve_base(Base("trixie", "amd64"))
    wanted = digest(render(recipe, Resolution({})), render_tests(recipe), base)
    labels = {"project": names.PROJECT, "recipe": "minimal", "version": "0.1.0-3", "state": names.STABLE, "script": wanted}
    shape = {"role": "image", "cpus": "2", "memory-mb": "1024", "disk-gb": "4"}
    cloud.world.images["minimal-0.1.0-3"] = Image(labels | shape, {}, 0.0, State.READY)
    return cloud.world.images["minimal-0.1.0-3"]


def test_when_nothing_has_changed_only_a_launch_is_left(recipe: Recipe, tmp_path: Path) -> None:
    cloud = FakeCloud(World(tmp_path))
    put_equal(cloud, recipe)
    lines = plan(cloud, recipe, home=tmp_path)
    assert lines == [
        "bake: nothing to do: minimal-0.1.0-3 has the same recipe, packages, files and base (to bake anyway: --force)",
        "launch: a machine from minimal-0.1.0-3: 2 processors, 1024 MB of memory, 4 GB of disk; SSH",
    ]


def test_defaults_of_a_launch_are_those_of_the_image(recipe: Recipe, tmp_path: Path) -> None:
    cloud = FakeCloud(World(tmp_path))
    put_equal(cloud, recipe).labels |= {"launch-spot": "1", "launch-lifetime-h": "0_5"}
    assert plan(cloud, recipe, home=tmp_path)[-1] == "  with the recipe's defaults: --spot --lifetime-h 0.5"


class LargeBases(FakeCloud):
    """A cloud whose bases have a disk of 8 GB."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        return replace(super().resolve_base(base, refresh=refresh, tell=tell), disk_gb=8)


def test_disk_of_the_builder_has_the_size_of_its_base_at_least(recipe: Recipe, tmp_path: Path) -> None:
    cloud = LargeBases(World(tmp_path))
    assert plan(cloud, recipe, home=tmp_path)[1].startswith("  builder on fake: 2 processors, 1024 MB of memory, 8 GB of disk;")
    large = replace(recipe, builder=replace(recipe.builder, disk_gb=12))
    assert "12 GB of disk" in plan(cloud, large, home=tmp_path)[1]


def test_machine_has_the_size_in_the_labels_of_its_image(recipe: Recipe, tmp_path: Path) -> None:
    cloud = LargeBases(World(tmp_path))
    put_equal(cloud, recipe).labels.update({"disk-gb": "8", "cpus": "3"})
    assert "launch: a machine from minimal-0.1.0-3: 3 processors, 1024 MB of memory, 8 GB of disk; SSH" in plan(
        cloud, recipe, home=tmp_path
    )


class BuildingCloud(FakeCloud):
    """A cloud that builds its bases, and has built none."""

    def kept_base(self, base: Base) -> BaseImage | None:
        return None


def test_plan_builds_no_base(recipe: Recipe, tmp_path: Path) -> None:
    cloud = BuildingCloud(World(tmp_path))
    put_equal(cloud, recipe)
    cloud.calls.clear()
    lines = plan(cloud, recipe, home=tmp_path)
    assert lines[:2] == ["bake: would run: its current base is not built yet", "  base trixie: built first, which takes minutes"]
    assert not any(call.startswith("resolve_base") for call in cloud.calls)


def test_plan_keeps_no_versions(recipe: Recipe, tmp_path: Path) -> None:
    cloud = FakeCloud(World(tmp_path / "world"))
    put_equal(cloud, recipe)
    plan(cloud, recipe, home=tmp_path / "home")
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("frozen_with", "told"),
    [
        (None, "  boots from its disk: its image has no memory"),
        (1, "  boots from its disk: 2 processors, and its memory was frozen with 1"),
        (2, "  restored from the image's saved memory: no boot"),
    ],
)
def test_it_says_whether_a_launch_boots_and_why(
    recipe: Recipe, tmp_path: Path, keeping: MemoryCloud, frozen_with: int | None, told: str
) -> None:
    image = put_equal(keeping, recipe)
    if frozen_with:
        image.memory_of = BootSpec(
            name="m", token="t", source="i", cpus=frozen_with, memory_mb=1024, disk_gb=4, labels={}, deadline_s=0
        )
    assert plan(keeping, recipe, home=tmp_path)[-1] == told
