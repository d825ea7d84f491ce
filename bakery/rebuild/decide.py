"""Decide which images to bake anew: for each recipe and cloud whether, and why.

A decision needs nothing that an earlier run has stored on this computer, since CI starts with an empty one: what an image contains
is in its labels (`script` is the digest of its order, `refreshed` the time of its Debian packages). Only security updates need the
list of its packages: without it they do not count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bakery.order import base_of, images_of, known_base
from bakery.rebuild.jobs import Job
from bakery.rebuild.security import Security, some
from bakery.recipe.recipe import Rebuild, Recipe, load
from bakery.script.render import digest, render, render_tests
from bakery.script.resolve import Resolution, resolve
from clouds import catalogue, names
from clouds.accounts import account_key
from clouds.capabilities import BuildsBases, ChecksComputer
from clouds.catalogue import Image
from clouds.client import Fate
from clouds.driver import BaseImage, Cloud
from clouds.errors import BakehouseError
from clouds.ledger import BakeNote, Ledger

DAY_S = 86400


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the image of a recipe is due, and why; `newest` is its newest stable image.

    `is_forced`: the order is the same as that of `newest`, so that a bake would return it if it were not forced.
    """

    is_due: bool
    why: str
    newest: Image | None = None
    is_forced: bool = False


class Versions:
    """The versions of packages: the newest, and those of the last bake on this computer. Each recipe is resolved once."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "resolved"
        self._newest: dict[str, Resolution] = {}

    def newest(self, recipe: Recipe) -> Resolution:
        """Return what a bake with `--refresh` would install; nothing is stored."""
        if recipe.name not in self._newest:
            self._newest[recipe.name] = resolve(recipe, self._folder, refresh=True, keep=False)
        return self._newest[recipe.name]

    def stored(self, recipe: Recipe) -> Resolution | None:
        """Return what the last bake on this computer has installed, if it is known."""
        is_stored = (self._folder / f"{recipe.name}.json").exists()
        return resolve(recipe, self._folder, refresh=False, keep=False) if is_stored else None


def decide(cloud: Cloud, recipe: Recipe, versions: Versions, security: Security, *, now: float) -> Decision:
    """Return whether to bake a recipe on a cloud; `now` is in seconds since the epoch. Nothing is created or stored.

    Raises RecipeError or CloudError if its packages, its base or its images cannot be looked up.
    """
    if isinstance(cloud, ChecksComputer):
        cloud.check_computer()
    images = catalogue.usable(catalogue.startable(cloud, catalogue.finished(images_of(cloud, recipe.name))))
    newest = catalogue.newest_stable(images, recipe.name)
    if newest is None:
        return Decision(is_due=True, why="no stable image so far")
    if why := _changed(cloud, recipe, newest, versions):
        return Decision(is_due=True, why=why, newest=newest)
    insecure = security.open(newest.labels.get("bake", ""))
    if insecure.lacks:
        return Decision(is_due=True, why=f"security updates: {insecure}", newest=newest, is_forced=True)
    if why := _too_old(newest, recipe.rebuild or Rebuild(), now):
        return Decision(is_due=True, why=why, newest=newest, is_forced=True)
    unchecked = f"; security updates were not checked: {insecure.unknown}" if insecure.unknown else ""
    return Decision(is_due=False, why=f"its image has the newest recipe, base and packages{unchecked}", newest=newest)


def _changed(cloud: Cloud, recipe: Recipe, image: Image, versions: Versions) -> str:
    """Return what an image lacks; "" for nothing."""
    base = _newest_base(cloud, recipe)
    if base is None:
        return "its base is not built on this computer"
    if not names.is_base(image.labels.get("base", ""), base.id):
        return f"its base is newer than that of {image.name}"
    wanted, label = image.labels.get("script", ""), image.labels.get(names.REFRESHED, "")
    newest = replace(versions.newest(recipe), refreshed=names.refreshed(label))
    if _digest(cloud, recipe, newest, base) == wanted:
        return ""
    stored = versions.stored(recipe)
    if stored and _digest(cloud, recipe, replace(stored, refreshed=newest.refreshed), base) == wanted:
        return f"packages are newer: {_differing(stored, newest)}"
    return f"the recipe, its files, packages or tests, or Bakehouse itself, have changed since {image.name}"


def _newest_base(cloud: Cloud, recipe: Recipe) -> BaseImage | None:
    """Return the newest base of a cloud; of one that builds them here, the one that is there."""
    if isinstance(cloud, BuildsBases):
        return known_base(cloud, recipe)
    return cloud.resolve_base(base_of(cloud, recipe), refresh=True)


def _digest(cloud: Cloud, recipe: Recipe, resolution: Resolution, base: BaseImage) -> str:
    return digest(render(recipe, resolution, cloud=cloud.name), render_tests(recipe), base)


def _differing(old: Resolution, new: Resolution) -> str:
    """Return some of the packages that differ, such as `numpy 2.1.0 → 2.2.0 and 4 others`."""
    before, after = _pins(old), _pins(new)
    changed = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
    return some([f"{name} {before.get(name, 'none')} → {after.get(name, 'none')}" for name in changed] or ["those of conda"])


def _pins(resolution: Resolution) -> dict[str, str]:
    """Return the versions of the Python packages by name."""
    lines = (line.partition(";")[0].partition("==") for lines in resolution.pins.values() for line in lines)
    return {name.strip(): version.strip() for name, _, version in lines}


def _too_old(image: Image, rebuild: Rebuild, now: float) -> str:
    """Return that an image is older than its recipe allows; "" if it is not."""
    days = (now - image.resource.created_at) / DAY_S
    return f"{image.name} is {days:.0f} days old (max_age_days = {rebuild.max_age_days})" if days > rebuild.max_age_days else ""


@dataclass(frozen=True, slots=True)
class Pair:
    """A recipe and a cloud, and whether to bake there; `error`: why that could not be decided."""

    job: Job
    recipe: Recipe
    cloud: Cloud | None = None
    decision: Decision | None = None
    error: BakehouseError | None = None

    @property
    def is_due(self) -> bool:
        """Whether the image is baked anew."""
        return bool(self.decision and self.decision.is_due)

    def __str__(self) -> str:
        if self.decision:
            return f"{self.job}: {'due' if self.is_due else 'nothing to do'}: {self.decision.why}"
        next_step = f"\n  next: {self.error.next_step}" if self.error and self.error.next_step else ""
        return f"{self.job}: failed: {self.error}{next_step}"


def decide_all(jobs: Sequence[Job], connect: Callable[[str], Cloud], home: Path, security: Security, *, now: float) -> list[Pair]:
    """Decide for all recipes and clouds; what is wrong with one does not affect the others. RecipeError: a recipe is wrong."""
    recipes = {job.recipe: load(job.recipe) for job in jobs}
    connected = {name: _connected(connect, name) for name in dict.fromkeys(job.cloud for job in jobs)}
    versions, ledger = Versions(home), Ledger(home / "ledger.sqlite3")

    def decided(cloud: Cloud, recipe: Recipe) -> Decision:
        if baking := [note.id for note in ledger.bakes(account_key(cloud)) if _is_baking(note, recipe)]:
            return Decision(is_due=False, why=f"{baking[0]} is baking it now")
        return decide(cloud, recipe, versions, security, now=now)

    return [_pair(job, recipes[job.recipe], connected[job.cloud], decided) for job in jobs]


def _is_baking(note: BakeNote, recipe: Recipe) -> bool:
    """Return whether a bake of a recipe is running on this computer; whether one elsewhere runs cannot be seen."""
    return note.labels.get("recipe") == recipe.name and names.client_fate(note.labels) is Fate.ALIVE


def _connected(connect: Callable[[str], Cloud], name: str) -> Cloud | BakehouseError:
    try:
        return connect(name)
    except BakehouseError as error:
        return error


def _pair(job: Job, recipe: Recipe, cloud: Cloud | BakehouseError, decided: Callable[[Cloud, Recipe], Decision]) -> Pair:
    if isinstance(cloud, BakehouseError):
        return Pair(job, recipe, error=cloud)
    try:
        decision = decided(cloud, recipe)
        return Pair(replace(job, is_forced=decision.is_forced), recipe, cloud, decision)
    except BakehouseError as error:
        return Pair(job, recipe, cloud, error=error)
