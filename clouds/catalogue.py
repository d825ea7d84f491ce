"""The catalogue of images: find the finished, stable and newest ones, one for a builder to start from, and their users.

Pure functions of the resources that a cloud lists. An image that a cloud stores in several regions is listed once for each:
`Image.location` distinguishes the copies, and `startable` omits those of other regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from clouds import names
from clouds.capabilities import KeepsImagesByRegion, OverlaysImages
from clouds.driver import Cloud, Kind, Resource, State

_OLDEST = Version("0.dev0")
"""Sorts before every version of an image; stands for a label that is not a version."""
DAMAGED = "damaged"
"""The state of an image without a label that a launch needs: see `names.damaged`."""
_LISTED = (State.READY, State.BROKEN)


@dataclass(frozen=True, slots=True)
class Image:
    """A finished image, read from its labels, which others may have changed: check `is_broken` and `damage`."""

    resource: Resource

    @property
    def name(self) -> str:
        """Its name, such as `jupyter-1.4.0-7`."""
        return self.resource.name

    @property
    def labels(self) -> Mapping[str, str]:
        """All of its labels."""
        return self.resource.labels

    @property
    def location(self) -> str:
        """The part of the cloud that stores this copy; "" if the cloud has one place for images."""
        return self.resource.zone

    @property
    def recipe(self) -> str:
        """The recipe that it was baked from; "" without that label."""
        return self.labels.get("recipe", "")

    @property
    def version(self) -> str:
        """Its version according to its label, such as `1.4.0-7`."""
        return self.labels.get("version", "")

    @property
    def is_broken(self) -> bool:
        """Whether its record cannot be read."""
        return self.resource.state is State.BROKEN

    @property
    def damage(self) -> str:
        """The first label that a launch needs and that is missing or damaged, such as `cpus`; "" for none."""
        return names.damaged(self.labels)

    @property
    def state(self) -> str:
        """Its state: candidate, stable or deprecated; broken; or damaged (see `damage`)."""
        if self.is_broken:
            return str(State.BROKEN)
        return DAMAGED if self.damage else self.labels.get("state", names.CANDIDATE)

    @property
    def findings(self) -> str:
        """Its label with the number of findings that keep it from being used; "" if it is sealed."""
        return self.labels.get(names.FINDINGS, "")

    @property
    def is_pinned(self) -> bool:
        """Whether it is kept until it is unpinned."""
        return bool(self.labels.get(names.PINNED))

    @property
    def is_stable(self) -> bool:
        """Whether it is sealed and has passed its tests, and is neither deprecated, damaged nor broken."""
        return self.state == names.STABLE and not self.findings

    def sort_key(self) -> tuple[str, Version, str]:
        """Return the key that sorts by recipe, then by version from old to new; copies by location."""
        version = names.version_of(self.labels)
        return self.recipe, version.key if version else _OLDEST, self.location


def finished(resources: Iterable[Resource]) -> list[Image]:
    """Return the images of finished bakes, sorted by recipe and version, the newest last.

    Damaged and broken ones are included, so that they are listed; `usable` leaves them out.
    """
    images = (one for one in resources if one.kind is Kind.IMAGE and one.labels.get("role") == "image")
    return sorted((Image(one) for one in images if one.state in _LISTED), key=Image.sort_key)


def startable(cloud: Cloud, images: Iterable[Image]) -> list[Image]:
    """Return the images from which a cloud can start machines: where it keeps them by region, those of its own."""
    if not isinstance(cloud, KeepsImagesByRegion):
        return list(images)
    return [image for image in images if image.location == cloud.image_region]


def usable(images: Iterable[Image]) -> list[Image]:
    """Return the images that are neither damaged nor broken, in the same order."""
    return [image for image in images if not (image.is_broken or image.damage)]


def of_recipe(images: Iterable[Image], recipe: str) -> list[Image]:
    """Return the images of a recipe, the newest last."""
    return sorted((image for image in images if image.recipe == recipe), key=Image.sort_key)


def newest_stable(images: Iterable[Image], recipe: str) -> Image | None:
    """Return the stable image of a recipe with the highest version, or None."""
    return max((image for image in images if image.is_stable and image.recipe == recipe), key=Image.sort_key, default=None)


def of_version(images: Iterable[Image], recipe: str, version: str) -> Image | None:
    """Return the image of a recipe that has this version, stable or not, or None."""
    return max((image for image in images if (image.recipe, image.version) == (recipe, version)), key=Image.sort_key, default=None)


def equal(images: Iterable[Image], recipe: str, digest: str) -> Image | None:
    """Return the newest stable image of a recipe that has the same digest (label `script`), or None."""
    return newest_stable((image for image in images if image.labels.get("script") == digest), recipe)


def held(images: Iterable[Image], recipe: str, digest: str) -> Image | None:
    """Return the newest candidate of the same digest whose findings the recipe may allow by now, or None."""
    open_ones = [image for image in usable(images) if image.findings.isdecimal() and image.state == names.CANDIDATE]
    same = [image for image in open_ones if (image.recipe, image.labels.get("script")) == (recipe, digest)]
    return max(same, key=Image.sort_key, default=None)


def start(images: Iterable[Image], recipe: str, chain: Sequence[str], *, owner: str, disk_gb: int) -> tuple[Image, int] | None:
    """Return the image that a builder can start from, and how many steps of `chain` it contains; None: no such image.

    `chain` has the key of each step that may be reused. The choice is the owner's stable image with the most of them (the newest
    of several) that was built on a disk of at most `disk_gb`.
    """
    held = {key: count for count, key in enumerate(chain, 1)}
    fitting = [image for image in images if image.labels.get("chain") in held and 0 < _built_gb(image) <= disk_gb]
    own = [image for image in fitting if image.is_stable and (image.recipe, image.labels.get("owner")) == (recipe, owner)]
    best = max(own, key=lambda image: (held[image.labels["chain"]], *image.sort_key()), default=None)
    return (best, held[best.labels["chain"]]) if best else None


def next_version(resources: Iterable[Resource], recipe: str, *, besides: Iterable[names.ImageVersion] = ()) -> names.ImageVersion:
    """Return the version for the next image of a recipe.

    Candidates, unfinished, damaged and broken images count as taken, and so do the versions in `besides`: a list may not yet
    contain the newest images, and an image may have lost its version label.
    """
    labels = [one.labels for one in resources if one.kind is Kind.IMAGE and one.labels.get("recipe") == recipe]
    taken = [version for one in labels if (version := names.version_of(one))]
    return names.next_version(names.release(), [*taken, *besides])


def users(resources: Iterable[Resource], image: str) -> list[str]:
    """Return the names of the machines and builders that were started from an image (their label `image`)."""
    return [one.name for one in resources if one.kind is Kind.MACHINE and one.labels.get("image") == image]


def holders(cloud: Cloud, resources: Iterable[Resource], image: str) -> list[str]:
    """Return the names of the machines that need an image: those of unfinished bakes and launches; where disks overlay it, all."""
    used = (one for one in resources if one.kind is Kind.MACHINE and one.labels.get("image") == image)
    return [one.name for one in used if isinstance(cloud, OverlaysImages) or one.labels.get("role") != "machine"]


def _built_gb(image: Image) -> int:
    """Return the size of the disk that an image was built on, in GB; 0: unknown, so that it fits no builder."""
    return names.number(image.labels, "built-gb")
