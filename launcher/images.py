"""Find, list and delete the images of a cloud."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from clouds import catalogue, names
from clouds.capabilities import KeepsMemory
from clouds.catalogue import Image
from clouds.driver import Cloud, Kind, Resource, State
from clouds.errors import CloudError, ConflictError, NotFoundError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from clouds.near import did_you_mean
from launcher import packages
from launcher.regions import other_regions, where

OLD_DAYS = 30
"""From this age on, an image is worth a new bake: its packages lack a month's security updates. A choice of ours."""
DAY_S = 86400
RECIPES = Path(__file__).parents[1] / "images"
"""The folder of the recipes that are baked by name; others are baked by the path of their file."""


class NoImageError(NotFoundError):
    """A recipe has no such image on this cloud; another cloud may have one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """A finished image. `created` is in seconds since the epoch.

    `state` is candidate or stable; or broken: its record cannot be read; or damaged: a label that a launch needs is missing.

    `memory_bytes` is the size of its saved memory on disk; 0: it has none, and each machine boots. `location` is its region, ""
    on a cloud without regions.
    """

    name: str
    recipe: str
    version: str
    state: str
    cloud: str
    size_bytes: int
    created: float
    labels: Mapping[str, str]
    memory_bytes: int = 0
    location: str = ""

    @property
    def is_sealed(self) -> bool:
        """Whether its bake has searched it for secrets, and found none or only allowed ones."""
        return not self.labels.get(names.FINDINGS)

    @property
    def is_stable(self) -> bool:
        """Whether it has passed its tests and is sealed, so that it is launched."""
        return self.state == names.STABLE and self.is_sealed

    @property
    def is_pinned(self) -> bool:
        """Whether it is kept until it is unpinned."""
        return bool(self.labels.get(names.PINNED))

    @property
    def cpus(self) -> int:
        """The default number of processors of its machines."""
        return self._size("cpus")

    @property
    def memory_mb(self) -> int:
        """The default memory size of its machines."""
        return self._size("memory-mb")

    @property
    def disk_gb(self) -> int:
        """The smallest disk size of its machines."""
        return self._size("disk-gb")

    def _size(self, key: str) -> int:
        if size := names.number(self.labels, key):
            return size
        raise CloudError(
            f"image {self.name!r}: its label {key!r} is missing or damaged",
            next_step=f"Bake a new one: {bake_command(self.recipe)} --force; then delete this one: ./inv delete-image {self.name}",
        )

    def to_json(self) -> dict[str, object]:
        """Return the fields for `--json`."""
        shown = ("name", "state", "cloud", "version", "memory_bytes")
        region = {"region": self.location} if self.location else {}
        return {key: getattr(self, key) for key in shown} | region | {"labels": dict(self.labels)}


def images(cloud: Cloud, region: str = "") -> list[ImageView]:
    """Return the finished images, sorted by recipe and version, the newest last; broken and damaged ones are included.

    `region` is the region of the cloud, if those of several are listed.
    """
    views = [_view(cloud, image) for image in _finished(cloud)]
    return [replace(view, location=region) for view in views] if region else views


def find_image(cloud: Cloud, *, recipe: str, version: str | None = None, name: str | None = None) -> ImageView:
    """Return the image with this name, else with this version of a recipe, else the newest stable one of the recipe.

    `recipe` is its name, or the path of its file. UsageError: `version` is not a version, or there is no such file. NotFoundError
    has the next step.
    """
    if name:
        return _by_name(cloud, name)
    typed, recipe = recipe, recipe_name(recipe)
    wanted = str(names.parse_version(version)) if version else ""
    listed = _finished(cloud)
    known = [image for image in catalogue.of_recipe(listed, recipe) if not image.is_broken]
    readable = catalogue.startable(cloud, known)
    found = catalogue.of_version(readable, recipe, wanted) if wanted else catalogue.newest_stable(readable, recipe)
    if found:
        _check_sealed(cloud, found)
        return _view(cloud, found)
    if wanted:
        error: NoImageError = _no_version(where(cloud), typed, wanted, [image.version for image in readable])
        elsewhere = catalogue.of_version([image for image in known if image not in readable], recipe, wanted)
    else:
        candidates = [image.version for image in readable if image.state == names.CANDIDATE and not image.findings]
        meant = "" if known else recipe_meant(typed, [image.recipe for image in listed])
        error = _no_image(where(cloud), typed, candidates, meant=meant)
        elsewhere = catalogue.newest_stable([image for image in known if image not in readable], recipe)
    if elsewhere:
        error.next_step += (
            f"\n{elsewhere.name} is in the region {elsewhere.location}: launch it there with --region {elsewhere.location}"
        )
    raise error


def view_of(cloud: Cloud, name: str, labels: Mapping[str, str]) -> ImageView:
    """Return an image that this process has just created with these labels, which takes no request."""
    return _view(cloud, Image(Resource(Kind.IMAGE, name, State.READY, labels)))


def recipe_meant(recipe: str, others: Iterable[str]) -> str:
    """Return the recipes that may be meant by the name of one without an image; "" if there is a recipe of this name.

    `others` are the recipes that have images.
    """
    known = {path.stem for path in RECIPES.glob("*.toml")}
    if recipe in known or _is_path(recipe):
        return ""
    names_of_all = sorted(known.union(others) - {""})
    listed = f"Choose one of {', '.join(names_of_all)}, or bake one of your own: {bake_command(recipe)}"
    return did_you_mean(recipe, names_of_all, otherwise=listed)


def recipe_name(recipe: str) -> str:
    """Return the name of a recipe that is given by name or by the path of its file, which is named after it.

    UsageError: there is no such file.
    """
    if not _is_path(recipe):
        return recipe
    if not os.path.isfile(recipe):  # noqa: PTH113 - Path.is_file raises for a name that is too long
        raise UsageError(f"{recipe}: no such file", next_step="Give the name or the path of a recipe; for names see: ./inv images")
    return Path(recipe).stem


def _is_path(recipe: str) -> bool:
    """Return whether a recipe is given by the path of its file: as `bakery.recipe.recipe.load` decides."""
    return "/" in recipe or recipe.endswith(".toml")


def age_days(image: ImageView, now: float) -> int:
    """Return how many whole days ago an image was made; `now` is in seconds since the epoch."""
    return int((now - image.created) // DAY_S)


def outdated(listed: Iterable[ImageView], max_age_days: int, *, now: float) -> list[ImageView]:
    """Return the newest stable image of each recipe and place that is older than so many days; `listed` has the newest last."""
    newest = {(one.cloud, one.location, one.recipe): one for one in listed if one.is_stable}
    return [one for one in newest.values() if age_days(one, now) > max_age_days]


def has_stable(listed: Iterable[ImageView], image: ImageView) -> bool:
    """Return whether the recipe of an image has a stable one in the same place."""
    place = (image.cloud, image.location, image.recipe)
    return any((one.cloud, one.location, one.recipe) == place and one.is_stable for one in listed)


def bake_command(recipe: str) -> str:
    """Return the command that bakes a recipe; of one that is not in images/ only its user knows the path."""
    if _is_path(recipe):
        return f"./inv bake --recipe {shlex.quote(recipe)}"
    is_known = os.path.isfile(RECIPES / f"{recipe}.toml")  # noqa: PTH113 - as above
    return f"./inv bake --recipe {recipe if is_known else 'PATH.toml'}"


def users(cloud: Cloud, image: str) -> list[str]:
    """Return the machines and builders that were started from an image: they may depend on its disk or saved memory."""
    return catalogue.users(cloud.owned({"project": names.PROJECT, "image": image}, {Kind.MACHINE}), image)


def delete_image(cloud: Cloud, ledger: Ledger, name: str) -> None:
    """Delete an image; for the errors see `check_unused`."""
    image = check_unused(cloud, name)
    remove(cloud, ledger, Kind.IMAGE, name)
    packages.forget(home(), image.labels.get("bake", ""))


def pin(cloud: Cloud, name: str, *, pinned: bool) -> None:
    """Pin an image, so that nothing deletes it, or unpin it. NotFoundError: no such image."""
    try:
        cloud.label(Kind.IMAGE, _by_name(cloud, name).name, {names.PINNED: "1" if pinned else ""})
    except NotFoundError as error:  # it was deleted meanwhile
        raise _unknown(cloud, name) from error


def check_unused(cloud: Cloud, name: str) -> Resource:
    """Return an image if it can be deleted. NotFoundError: no such image. ConflictError: it is pinned, or machines need it."""
    image = cloud.find(Kind.IMAGE, name)
    if image is None:
        raise _unknown(cloud, name)
    if Image(image).is_pinned:
        raise ConflictError(f"image {name!r} is pinned", next_step=f"Unpin it first: ./inv unpin {name}")
    machines = cloud.owned({"project": names.PROJECT, "image": name}, {Kind.MACHINE})
    if found := catalogue.holders(cloud, machines, name):
        raise ConflictError(
            f"image {name!r} is in use by {', '.join(found)}",
            next_step=f"Delete the machines that use it first: ./inv delete {found[0]}",
        )
    return image


def _check_sealed(cloud: Cloud, image: Image) -> None:
    """Raise CloudError if a bake has found secrets in an image, or could not search it."""
    if image.findings:
        number, _, is_final = image.findings.partition("-")
        found = (
            f"findings of its bake: {number} (secrets, or files that no image may contain)"
            if number != "0"
            else "it was not searched"
        )
        again = "To bake a new one" if is_final else "To search it again"
        raise CloudError(
            f"image {image.name!r} on {cloud.name} is not sealed: {found}",
            next_step=f"{again}: {bake_command(image.recipe)}; to delete it: ./inv delete-image {image.name}",
        )


def _by_name(cloud: Cloud, name: str) -> ImageView:
    """Find an image by its exact name, including one that its bake is still testing."""
    found = cloud.find(Kind.IMAGE, name)
    if found and found.state is State.BROKEN:
        raise CloudError(f"image {name!r} on {cloud.name} is broken", next_step=f"Delete it: ./inv delete-image {name}")
    if found is None or found.state is not State.READY:
        raise _unknown(cloud, name)
    return _view(cloud, Image(found))


def _finished(cloud: Cloud) -> list[Image]:
    return catalogue.finished(cloud.owned({"project": names.PROJECT, "role": "image"}, {Kind.IMAGE}))


def _view(cloud: Cloud, image: Image) -> ImageView:
    return ImageView(
        name=image.name,
        recipe=image.recipe,
        version=image.version,
        state=image.state,
        cloud=cloud.name,
        size_bytes=image.resource.size_bytes,
        created=image.resource.created_at,
        labels=image.labels,
        memory_bytes=cloud.memory_bytes(image.name) if isinstance(cloud, KeepsMemory) else 0,
        location=image.location,
    )


def _no_version(cloud: str, recipe: str, version: str, versions: Sequence[str]) -> NoImageError:
    return NoImageError(
        f"recipe {recipe_name(recipe)!r} has no image of version {version} on {cloud}",
        next_step=f"Available versions: {', '.join(versions)}" if versions else f"Bake one: {bake_command(recipe)}",
    )


def _no_image(cloud: str, recipe: str, candidates: Sequence[str], *, meant: str) -> NoImageError:
    typed = shlex.quote(recipe)
    candidate = (
        f"; to launch the newest candidate, which failed its tests: ./inv launch --recipe {typed} --version {candidates[-1]}"
        if candidates
        else ""
    )
    return NoImageError(
        f"recipe {recipe_name(recipe)!r} has no stable image on {cloud}",
        next_step=meant or f"Bake one: {bake_command(recipe)}{candidate}",
    )


def _unknown(cloud: Cloud, name: str) -> NotFoundError:
    next_step = did_you_mean(name, [image.name for image in images(cloud)], otherwise="See: ./inv images")
    return NotFoundError(f"image {name!r} not found on {where(cloud)}", next_step=next_step + other_regions(cloud, "images"))
