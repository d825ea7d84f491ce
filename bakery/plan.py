"""Describe what a bake and a launch of a recipe would do, and why, without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bakery.cache import find_start
from bakery.layers import Outlook
from bakery.order import BakeOptions, images_of, known_base, place_order
from bakery.proof.saved_memory import misfit
from bakery.recipe.recipe import Recipe
from bakery.script import conda
from bakery.script.render import render
from bakery.script.resolve import Resolution
from bakery.shipment import described, sent_bytes
from clouds import catalogue, names
from clouds.capabilities import ChecksComputer, KeepsLayers, KeepsMemory, RunsHere
from clouds.catalogue import Image
from clouds.driver import BaseImage, Cloud
from launcher import defaults


def plan(cloud: Cloud, recipe: Recipe, *, home: Path) -> list[str]:
    """Return lines about what a bake would create in a cloud, or why it would not run, and what a launch would create.

    Raises MissingToolError if machines of that cloud cannot run on this computer, and UsageError for a wrong .condarc.
    """
    if isinstance(cloud, ChecksComputer):
        cloud.check_computer()
    conda.gather(recipe)
    listed = images_of(cloud, recipe.name)
    images = catalogue.usable(catalogue.startable(cloud, catalogue.finished(listed)))
    base = known_base(cloud, recipe)
    reason = "would run: no image yet"
    equal, held, steps = None, None, []
    size_bytes = _least_bytes(cloud, recipe)
    if images and base is None:
        reason = "would run: its current base is not built yet"
    elif images or (isinstance(cloud, KeepsLayers) and cloud.layers() and base):
        order = place_order(cloud, recipe, BakeOptions(), home, lambda _line: None, keep_versions=False)
        equal, size_bytes = catalogue.equal(images, recipe.name, order.digest), order.sent_bytes
        reason = why(images, recipe.name, order.digest, order.base) if images else reason
        held = None if equal else catalogue.held(images, recipe.name, order.digest)
        steps = [] if equal or held else [_shown(one) for one in find_start(cloud, order, listed)[1]]
    newest = catalogue.newest_stable(images, recipe.name)
    version = held.version if held else str(catalogue.next_version(listed, recipe.name))
    way = described(cloud, size_bytes) if size_bytes else ""
    built = describe_bake(recipe, cloud.name, version, steps, way=way, base_gb=base.disk_gb if base else 0)
    tested = describe_test(recipe, version, keeps_memory=isinstance(cloud, KeepsMemory))
    first = [] if base else [f"  base {recipe.base.suite}: built first, which takes minutes"]
    baked = [] if equal else tested if held else [*first, *built, *tested]
    launched = describe_launch(recipe, equal or newest, version, is_baked=equal is not None)
    if equal and (misfitting := misfit(cloud, equal)):
        reason = f"would save the memory of {equal.name} again: {misfitting}"
    return [f"bake: {reason}", *baked, *launched, *describe_start(cloud, equal or newest), *describe_computer(cloud)]


def _least_bytes(cloud: Cloud, recipe: Recipe) -> int:
    """Return how much a bake would send over SSH at least: what is known without resolving packages, which needs a network."""
    known = tuple(step for step in recipe.steps if step.copy is not None)
    script = render(replace(recipe, steps=known), Resolution({}, ""))
    return sent_bytes(cloud, script, deadline_s=int(recipe.builder.deadline_min * 60))


def _shown(step: Outlook) -> str:
    return f"  step {step.step}: {'reused' if step.reused else 'runs'}: {step.why}"


def why(images: Sequence[Image], recipe: str, wanted: str, base: BaseImage) -> str:
    """Return why a bake would run, or would not; `images` are the usable ones of the recipe."""
    if equal := catalogue.equal(images, recipe, wanted):
        return f"nothing to do: {equal.name} has the same recipe, packages, files and base (to bake anyway: --force)"
    if found := catalogue.held(images, recipe, wanted):
        return f"would check {found.name} again, which was not sealed, and build nothing"
    if same := [image for image in images if image.labels.get("script") == wanted]:
        return f"would run: an image of the same content {'was not sealed' if same[-1].findings else 'failed its tests'}"
    newest = catalogue.newest_stable(images, recipe)
    if newest is None:
        return "would run: all images are candidates; none has passed its tests"
    if not names.is_base(newest.labels.get("base", ""), base.id):
        return f"would run: the base has changed since {newest.name}"
    return f"would run: the recipe, its files, packages or tests, or Bakehouse itself, have changed since {newest.name}"


def describe_bake(
    recipe: Recipe, cloud: str, version: str, steps: Sequence[str] = (), *, way: str = "", base_gb: int = 0
) -> list[str]:
    """Return what a bake would create up to its image, in order; `steps`: a line per step, whether it is reused or run.

    `way` says that script and files are sent to the builder over SSH. A disk has at least the size of the base, `base_gb`.
    """
    builder = recipe.builder
    names_of_steps = ", ".join(["prepare", *(step.name for step in recipe.steps), "seal"])
    return [
        f"  builder on {cloud}: {_shape(builder.cpus, builder.memory_mb, max(builder.disk_gb, base_gb))}; deleted at the end",
        *([f"  {way}"] if way else []),
        *(steps or [f"  steps: {names_of_steps}"]),
        f"  image {recipe.name}-{version}, a candidate at first",
    ]


def describe_test(recipe: Recipe, version: str, *, keeps_memory: bool) -> list[str]:
    """Return what a bake would create to test an image, and then publish it."""
    tests = ", ".join([*(test.name for test in recipe.checks), *(["log in to the notebook"] if recipe.has_notebook else [])])
    return [
        *(["  machine booted from it, whose memory is saved with the image; deleted at the end"] if keeps_memory else []),
        f"  machine that tests it: {tests or 'that it boots'}; deleted at the end",
        f"  then {recipe.name}-{version} is stable",
    ]


def describe_launch(recipe: Recipe, image: Image | None, version: str, *, is_baked: bool) -> list[str]:
    """Return what a launch would create, from the existing image or, after a bake, from the new one.

    The size of a machine is in the image's labels: the image may be of another version of the recipe.
    """
    if image is None:
        return [f"launch: needs a bake first; then from {recipe.name}-{version}"]
    later = "" if is_baked else f" (after a bake: {recipe.name}-{version})"
    cpus, memory_mb, disk_gb = (names.number(image.labels, label) for label in names.SIZES)
    access = "a notebook with a password, and SSH" if recipe.has_notebook else "SSH"
    flags = defaults.flags(image.labels)
    return [
        f"launch: a machine from {image.name}{later}: {_shape(cpus, memory_mb, disk_gb)}; {access}",
        *([f"  with the recipe's defaults: {flags}"] if flags else []),
    ]


def describe_start(cloud: Cloud, image: Image | None) -> list[str]:
    """Return whether the machine would be restored from saved memory or boot, and why; nothing on a cloud without saved memory."""
    if image is None or not isinstance(cloud, KeepsMemory):
        return []
    reason = misfit(cloud, image)
    return [f"  boots from its disk: {reason}" if reason else "  restored from the image's saved memory: no boot"]


def describe_computer(cloud: Cloud) -> list[str]:
    """Return the accelerator of machines on this computer, and why it is not KVM."""
    if not isinstance(cloud, RunsHere):
        return []
    return [f"accelerator: {cloud.accelerator_name}", *(f"  {line}" for line in cloud.notices())]


def _shape(cpus: int, memory_mb: int, disk_gb: int) -> str:
    return f"{cpus} processors, {memory_mb} MB of memory, {disk_gb} GB of disk"
