"""The order of a bake, decided before anything is created: script, base, digest, names, labels, deadlines."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bakery.layers import Link, Reuse, Shape, chain, reuse
from bakery.recipe.recipe import Recipe
from bakery.script.render import Script, check_size, digest, render, render_tests
from bakery.script.resolve import Resolution, resolve
from bakery.shipment import sent_bytes, transfer_s
from clouds import catalogue, names
from clouds.capabilities import BuildsBases, ChecksComputer, InstallsInBases, ReceivesFiles, RunsHere
from clouds.catalogue import Image
from clouds.driver import Base, BaseImage, Cloud, Kind, Resource, Tell, Wishes
from clouds.errors import InvalidError

OWN_CONNECTION = 8.0
"""By what factor downloads may be slower over this computer's connection than in a data center."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BakeOptions:
    """The options of a bake. `cpus` and `memory_mb` override the recipe's builder, `machine_type` overrides both.

    `no_public_ip`: neither the builder nor the test machine gets a public address. `no_cache`, or `from_step` from that step on:
    run all steps even if nothing has changed. `spot`: the builder, but not the test machine, uses spot capacity.
    """

    force: bool = False
    refresh: bool = False
    keep: bool = False
    no_cache: bool = False
    from_step: str = ""
    cpus: int | None = None
    memory_mb: int | None = None
    machine_type: str = ""
    no_public_ip: bool = False
    spot: bool = False

    @property
    def wishes(self) -> Wishes:
        """The options of the builder as a machine."""
        return Wishes(machine_type=self.machine_type, no_public_ip=self.no_public_ip, spot=self.spot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One bake, fully decided. `deadline_s` and `silence_s` are already multiplied by `patience`.

    `sent_bytes` is what is sent to the builder over SSH, since the cloud does not accept it at boot; 0: nothing.
    `chain` has a link for each checkpoint except the last; `reuse` says how many of them may be reused.
    """

    id: str
    nonce: str
    recipe: Recipe
    resolution: Resolution
    script: Script
    tests: Script | None
    base: BaseImage
    chain: tuple[Link, ...]
    reuse: Reuse
    digest: str
    cpus: int
    memory_mb: int
    disk_gb: int
    deadline_s: float
    silence_s: float
    labels: Mapping[str, str]
    no_public_ip: bool = False
    spot: bool = False
    machine_type: str = ""
    keep: bool = False
    sent_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return this order as plain data, from which another process continues the bake, and what others show of it."""
        return {
            "recipe": self.recipe.name,
            "checkpoints": list(self.script.checkpoints),
            "labels": dict(self.labels),
            "order": _adapter().dump_python(self, mode="json", by_alias=True, exclude_defaults=True),
        }

    @property
    def wishes(self) -> Wishes:
        """The options of the builder as a machine."""
        return Wishes(machine_type=self.machine_type, no_public_ip=self.no_public_ip, spot=self.spot)

    @property
    def shape(self) -> Shape:
        """The hardware of the builder."""
        return Shape(self.disk_gb, self.cpus, self.memory_mb)


@cache
def _adapter() -> TypeAdapter[Order]:
    return TypeAdapter(Order)


def read_order(content: Mapping[str, Any]) -> Order | None:
    """Return the order that `Order.to_json` has given, or None if it is from a release whose orders this one cannot read."""
    try:
        return _adapter().validate_python(content.get("order"))
    except ValidationError:
        return None


def place_order(cloud: Cloud, recipe: Recipe, options: BakeOptions, home: Path, tell: Tell, *, keep_versions: bool = True) -> Order:
    """Resolve and render a recipe for a cloud. Creates nothing in the cloud except the base, if it must be built.

    `keep_versions`: store newly resolved package versions for the next order.
    Raises MissingToolError, before anything is resolved, if machines of that cloud cannot run on this computer.
    """
    if isinstance(cloud, ChecksComputer):
        cloud.check_computer()
    resolution = resolve(recipe, home / "resolved", refresh=options.refresh, keep=keep_versions)
    script, tests = render(recipe, resolution, cloud=cloud.name), render_tests(recipe)
    reusable = reuse(script.checkpoints, no_cache=options.no_cache, from_step=options.from_step)
    base = cloud.resolve_base(base_of(cloud, recipe), refresh=options.refresh, tell=tell)
    bake_id, wanted, links = names.new_bake_id(), digest(script, tests, base), chain(script, base)
    deadline_s = recipe.builder.deadline_min * 60 * patience(cloud)
    size_bytes = sent_bytes(cloud, script, deadline_s=int(deadline_s))
    _check_limits(cloud, recipe, tests, size_bytes)
    deadline_s += transfer_s(cloud, size_bytes)
    return Order(
        id=bake_id,
        nonce=names.new_nonce(),
        recipe=recipe,
        resolution=resolution,
        script=script,
        tests=tests,
        base=base,
        chain=links,
        reuse=reusable,
        digest=wanted,
        cpus=options.cpus or recipe.builder.cpus,
        memory_mb=options.memory_mb or recipe.builder.memory_mb,
        disk_gb=max(recipe.builder.disk_gb, base.disk_gb),
        deadline_s=deadline_s,
        silence_s=recipe.builder.silence_min * 60 * patience(cloud),
        no_public_ip=options.no_public_ip,
        spot=options.spot,
        machine_type=options.machine_type,
        keep=options.keep,
        sent_bytes=size_bytes,
        labels=names.client_labels()
        | {
            "recipe": recipe.name,
            "bake": bake_id,
            "script": wanted,
            "chain": links[-1].key,
            "base": names.base_label(base.id),
            "commit": _git_commit(),
            **names.refreshed_label(resolution.refreshed),
            "expires": str(int(time.time() + deadline_s)),
        },
    )


def base_of(cloud: Cloud, recipe: Recipe) -> Base:
    """Return the base of a recipe on a cloud: with the packages of its first steps (`in_base`) if the cloud installs them."""
    packages = recipe.packages_in_base if isinstance(cloud, InstallsInBases) else ()
    return Base(recipe.base.suite, recipe.base.architecture, packages)


def known_base(cloud: Cloud, recipe: Recipe) -> BaseImage | None:
    """Return the base that a bake would start from; None if it has to be built first, which takes minutes."""
    base = base_of(cloud, recipe)
    return cloud.kept_base(base) if isinstance(cloud, BuildsBases) else cloud.resolve_base(base)


def _check_limits(cloud: Cloud, recipe: Recipe, tests: Script | None, size_bytes: int) -> None:
    """Raise InvalidError, before anything is created, where a cloud has no way for a script: of the bake, or of the tests."""
    if size_bytes and not isinstance(cloud, ReceivesFiles):
        raise InvalidError(
            f"recipe {recipe.name}: script and files: {size_bytes} bytes; {cloud.name} takes {cloud.limits.script_bytes} bytes",
            next_step="Let the builder download large files: write a `fetch` step in place of `copy`.",
        )
    if tests:
        text = tests.for_boot(names.new_nonce(), deadline_s=10**6)
        check_size(cloud.name, f"recipe {recipe.name}: the script of its tests", text, cloud.limits)


def patience(cloud: Cloud) -> float:
    """Return the factor for a script's time limits: its steps compute and download, and both may be slow.

    A guest on KVM is as fast as hardware, but its downloads are not faster than those of an emulated guest.
    """
    return max(cloud.slowness, OWN_CONNECTION) if isinstance(cloud, RunsHere) else cloud.slowness


def images_of(cloud: Cloud, recipe: str) -> list[Resource]:
    """Return everything that a cloud lists as an image of a recipe, including unfinished ones; see `clouds.catalogue`."""
    return cloud.owned({"project": names.PROJECT, "recipe": recipe}, {Kind.IMAGE})


def find_equal(cloud: Cloud, order: Order, listed: Iterable[Resource]) -> Image | None:
    """Return the newest stable image with the digest of this order, else the newest that was only not sealed, or None.

    `listed` are the images of its recipe.
    """
    images = catalogue.startable(cloud, catalogue.finished(listed))
    return catalogue.equal(images, order.recipe.name, order.digest) or catalogue.held(images, order.recipe.name, order.digest)


@cache
def _git_commit() -> str:
    """Return the commit of the recipes in use, or 'none' outside a git checkout."""
    command = ["git", "-C", str(Path(__file__).parents[1]), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "none"
