"""prune: find the images that are no longer needed, and delete them.

Of each recipe, the newest stable images stay, as many as the user says. An image also stays if

- it is pinned (label `pinned`), the newest stable one of its recipe, or newer than that (a candidate that someone may inspect);
- a machine needs it (`clouds.catalogue.holders`): that of a bake or launch in progress, and on this computer every machine of it;
- its labels are damaged, so that nobody knows what it is; or it is younger than the user says.

On AWS, the snapshots of an image are deleted with it. Those that an interrupted deletion has left are found, and go as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from clouds import catalogue, names
from clouds.catalogue import Image
from clouds.driver import Cloud, Kind, Resource
from clouds.errors import BakehouseError, LeftoverError
from clouds.incomplete import partly
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher.images import delete_image

DAY_S = 24 * 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the user keeps: so many stable images of each recipe, and images younger than `older_than_s`. `recipe` "": of each.

    `is_one_coming`: a stable image of each recipe is made before the old ones are deleted.
    """

    keep: int
    older_than_s: float = 0.0
    recipe: str = ""
    is_one_coming: bool = False


@dataclass(frozen=True, slots=True)
class Survey:
    """The images that will be deleted; those that stay, each with the reason; and the snapshots of images that are deleted already.

    `missing` are the parts of the cloud that did not respond. There may be machines that need an image, so all images stay.
    """

    goes: tuple[Image, ...]
    stays: tuple[tuple[Image, str], ...]
    left: tuple[Resource, ...]
    missing: tuple[str, ...]


def survey(cloud: Cloud, rules: Rules, *, now: float) -> Survey:
    """Return what will be deleted, and why the rest stays; changes nothing. `now` is in seconds since the epoch."""
    listed, unlisted = partly(lambda: cloud.owned({"project": names.PROJECT, "role": "image"}, {Kind.IMAGE, Kind.DISK}))
    machines, unreached = partly(lambda: cloud.owned({"project": names.PROJECT}, {Kind.MACHINE}))
    missing = tuple(sorted({*unlisted, *unreached}))
    images = [one for one in catalogue.startable(cloud, catalogue.finished(listed)) if rules.recipe in ("", one.recipe)]
    judged = [(image, _judge(image, images, rules, now) or _need(cloud, image, machines, missing)) for image in images]
    return Survey(
        goes=tuple(image for image, reason in judged if not reason),
        stays=tuple((image, reason) for image, reason in judged if reason),
        left=tuple(one for one in listed if one.kind is Kind.DISK and rules.recipe in ("", one.labels.get("recipe"))),
        missing=missing,
    )


def _judge(image: Image, images: Iterable[Image], rules: Rules, now: float) -> str:
    """Return why an image stays because of what it is, or ""."""
    if image.is_broken or image.damage or not image.recipe:
        return f"its labels are damaged; to delete it: ./inv delete-image {image.name}"
    if image.is_pinned:
        return f"pinned; to unpin it: ./inv unpin {image.name}"
    stable = [one for one in catalogue.of_recipe(images, image.recipe) if one.is_stable]
    if image in stable[-1:] and not rules.is_one_coming:
        return "the newest stable image of its recipe"
    if image in stable[::-1][: rules.keep - rules.is_one_coming]:
        return f"one of the {rules.keep} newest stable images of its recipe"
    if not rules.is_one_coming and (not stable or image.sort_key() > stable[-1].sort_key()):
        return "newer than the stable images of its recipe"
    age_s = now - image.resource.created_at
    return f"only {age_s / DAY_S:.0f} days old" if age_s < rules.older_than_s else ""


def _need(cloud: Cloud, image: Image, machines: Iterable[Resource], missing: Sequence[str]) -> str:
    """Return which machines need an image, or ""."""
    if found := catalogue.holders(cloud, machines, image.name):
        return f"in use by {', '.join(found)}"
    return f"machines may need it: could not reach {', '.join(missing)}" if missing else ""


def collect(cloud: Cloud, ledger: Ledger, found: Survey) -> list[Image]:
    """Delete what a survey has found, continuing after failures; return the images that have changed since, which stay.

    LeftoverError names what could not be deleted, and the reason.
    """
    changed, failed = [], []
    for image in found.goes:
        try:
            there = cloud.find(Kind.IMAGE, image.name)
            if there is None:  # another command deletes it, or was interrupted in that
                remove(cloud, ledger, Kind.IMAGE, image.name)
            elif (there.created_at, there.labels) == (image.resource.created_at, image.labels):
                delete_image(cloud, ledger, image.name)
            else:
                changed.append(image)
        except BakehouseError as error:
            failed.append(f"image {image.name!r} ({error.message})")
    failed += _remove_left(cloud, ledger, found.left)
    if failed:
        raise LeftoverError("could not delete:\n" + "\n".join(failed), left=failed, next_step="Run the command again.")
    return changed


def _remove_left(cloud: Cloud, ledger: Ledger, left: Iterable[Resource]) -> Iterator[str]:
    for one in left:
        try:
            remove(cloud, ledger, one.kind, one.name, one.zone)
        except BakehouseError as error:
            yield f"{one.kind} {one.name!r} ({error.message})"
