"""The images of a cloud, as their owner sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from clouds import catalogue, names
from clouds.capabilities import KeepsMemory
from clouds.catalogue import Image
from clouds.driver import Cloud, Kind, State
from clouds.errors import CloudError, ConflictError, NotFoundError
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from clouds.near import did_you_mean


class NoImageError(NotFoundError):
    """A recipe has no such image on this cloud; another one may have it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageView:
    """A finished image. `created` is in seconds since the epoch.

    `state` is candidate or stable; or broken: its record cannot be read; or damaged: its labels lack what a launch has to know.

    `memory_bytes` is what the memory that it carries occupies; 0: it has none, and each machine boots.
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

    @property
    def cpus(self) -> int:
        """How many processors a machine of it has, unless asked for otherwise."""
        return self._size("cpus")

    @property
    def memory_mb(self) -> int:
        """How much memory a machine of it has, unless asked for otherwise."""
        return self._size("memory-mb")

    @property
    def disk_gb(self) -> int:
        """How large the disk of a machine of it is at least."""
        return self._size("disk-gb")

    def _size(self, key: str) -> int:
        if size := names.number(self.labels, key):
            return size
        raise CloudError(
            f"image {self.name}: its label {key} is missing or damaged",
            next_step=f"Bake a new one: ./inv bake --recipe {self.recipe or 'NAME'} --force; "
            f"then delete this one: ./inv delete-image {self.name}",
        )

    def to_json(self) -> dict[str, object]:
        """Return what programs are shown."""
        shown = ("name", "state", "cloud", "version", "memory_bytes")
        return {key: getattr(self, key) for key in shown} | {"labels": dict(self.labels)}


def images(cloud: Cloud) -> list[ImageView]:
    """Return the finished images, by recipe and then by version, the newest last; those that are broken or damaged too."""
    return [_view(cloud, image) for image in _finished(cloud)]


def find_image(cloud: Cloud, *, recipe: str, version: str | None = None, name: str | None = None) -> ImageView:
    """Return the image of this name, else of this version of a recipe, else the newest stable one of the recipe.

    Raises UsageError for what is no version, NotFoundError with what to do instead.
    """
    if name:
        return _by_name(cloud, name)
    wanted = str(names.parse_version(version)) if version else ""
    readable = [image for image in catalogue.of_recipe(_finished(cloud), recipe) if not image.is_broken]
    found = catalogue.of_version(readable, recipe, wanted) if wanted else catalogue.newest_stable(readable, recipe)
    if found:
        return _view(cloud, found)
    if wanted:
        raise _no_version(cloud.name, recipe, wanted, [image.version for image in readable])
    raise _no_image(cloud.name, recipe, [image.version for image in readable if image.state == names.CANDIDATE])


def users(cloud: Cloud, image: str) -> list[str]:
    """Return the machines and builders that were started from an image: their disks may depend on it, or on its saved memory."""
    return catalogue.users(cloud.owned({"project": names.PROJECT, "image": image}, {Kind.MACHINE}), image)


def delete_image(cloud: Cloud, ledger: Ledger, name: str) -> None:
    """Delete an image. NotFoundError: there is none; ConflictError: machines were launched from it and need its disk."""
    if cloud.find(Kind.IMAGE, name) is None:
        raise _unknown(cloud, name)
    if found := users(cloud, name):
        raise ConflictError(
            f"image {name}: in use by {', '.join(found)}",
            next_step=f"Delete first what was launched from it: ./inv delete {found[0]}",
        )
    remove(cloud, ledger, Kind.IMAGE, name)


def _by_name(cloud: Cloud, name: str) -> ImageView:
    """Find an image by its exact name, also one whose bake is still testing it."""
    found = cloud.find(Kind.IMAGE, name)
    if found and found.state is State.BROKEN:
        raise CloudError(f"image {name} on {cloud.name} is broken", next_step=f"Delete it: ./inv delete-image {name}")
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
    )


def _no_version(cloud: str, recipe: str, version: str, versions: Sequence[str]) -> NoImageError:
    return NoImageError(
        f"recipe {recipe}: no image of version {version} on {cloud}",
        next_step=f"There are: {', '.join(versions)}." if versions else f"Bake one: ./inv bake --recipe {recipe}",
    )


def _no_image(cloud: str, recipe: str, candidates: Sequence[str]) -> NoImageError:
    look = (
        f"; its newest candidate, which failed its tests: ./inv launch --recipe {recipe} --version {candidates[-1]}"
        if candidates
        else ""
    )
    return NoImageError(
        f"recipe {recipe}: no image on {cloud} that has passed its tests", next_step=f"Bake one: ./inv bake --recipe {recipe}{look}"
    )


def _unknown(cloud: Cloud, name: str) -> NotFoundError:
    next_step = did_you_mean(name, [image.name for image in images(cloud)], otherwise="See: ./inv images")
    return NotFoundError(f"image {name}: there is none on {cloud.name}", next_step=next_step)
