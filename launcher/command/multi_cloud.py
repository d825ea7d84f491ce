"""Run an action on all configured clouds, one after another, or in all regions of a cloud, at once.

A failure in one place does not affect the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import clouds
from clouds.errors import BakehouseError, UnreachableError, UsageError
from launcher.command import hints
from launcher.command.at_once import at_once
from launcher.command.hints import Command

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.capabilities import HasRegions
    from clouds.driver import Cloud, Tell

ALL = "all"
T = TypeVar("T")


def visit(name: str | None, action: Callable[[Cloud, str], T], tell: Tell, *, region: str | None = None) -> tuple[list[T], bool]:
    """Run an action on a cloud, or with `all` on each configured one; return the results, and whether all succeeded.

    With `all`, the error of a cloud is printed and the cloud skipped; for a single cloud it is raised. If only a part of a cloud
    could not be reached, the error is printed, and the result covers the rest. With a region, the action runs there, with `all` in
    each enabled region of the cloud, and receives the region's name; otherwise it receives "".
    """
    if name != ALL:
        try:
            return _visit_one(name, action, tell, region)
        except UnreachableError as error:
            tell(f"error: {error.message}")
            tell(f"next: {error.next_step}")
            return [error.found], False  # type: ignore[list-item]  # it is what the action would have returned
    done: list[T] = []
    failed: list[str] = []
    for one in clouds.configured():
        try:
            results, complete = _visit_one(one, action, tell, region, is_one_of_all=True)
            done += results
            failed += [] if complete else [one]
        except BakehouseError as error:
            if isinstance(error, UnreachableError):
                done.append(error.found)  # type: ignore[arg-type]
            failed.append(one)
            next_step = hints.write(error.next_step, one, region if region and region != ALL else "")
            tell(_in_place(one, error.message.removeprefix(f"{one}: "), next_step))
    return done, not failed


def _visit_one(
    name: str | None, action: Callable[[Cloud, str], T], tell: Tell, region: str | None, *, is_one_of_all: bool = False
) -> tuple[list[T], bool]:
    """Do the same for one cloud. UsageError: a region is given for a cloud without regions, or one that covers them all anyway."""
    from clouds.capabilities import HasRegions

    cloud = clouds.connect(name, {"region": region}) if region and region != ALL else clouds.connect(name)
    if not region or (region == ALL and is_one_of_all and not isinstance(cloud, HasRegions)):
        return [action(cloud, "")], True
    if not isinstance(cloud, HasRegions):
        raise no_regions(cloud, region)
    if region == ALL:
        return _in_all_regions(cloud, cloud.name, action, tell, hints_cloud=cloud.name if is_one_of_all else "")
    return [action(cloud, region)], True


def no_regions(cloud: Cloud, region: str) -> UsageError:
    """Return the error for `--region` with a cloud that needs none to find machines and images."""
    return UsageError(f"--region {region}: cloud {cloud.name!r} finds everything without it (leave it out)")


def _in_all_regions(
    cloud: HasRegions, name: str, action: Callable[[Cloud, str], T], tell: Tell, *, hints_cloud: str
) -> tuple[list[T], bool]:
    """Run an action in every enabled region at once; the error of a region is printed, and the region left out."""
    places = [(region, cloud.in_region(region)) for region in cloud.regions()]
    results = at_once([partial(action, place, region) for region, place in places])
    done: list[T] = []
    complete = True
    for (region, _), result in zip(places, results, strict=True):
        if isinstance(result, BakehouseError):
            complete = False
            tell(_in_place(f"{name} in {region}", result.message, hints.write(result.next_step, hints_cloud, region)))
        else:
            done.append(result)
    return done, complete


def _in_place(place: str, message: str, next_step: str) -> str:
    """Return the error of one of several places, its next step on a line of its own."""
    advice = next_step.replace("\n", "\n        ")
    return f"{place}: {message}" + (f"\n  next: {advice}" if advice else "")


def launches_elsewhere(recipe: str, version: str | None, *, besides: str) -> list[str]:
    """Return the commands that would launch the recipe on other configured clouds which have an image of it.

    They are only printed, since another cloud may cost money. Changes nothing, and never raises.
    """
    found = [name for name in clouds.configured() if name != besides and _has_image(name, recipe, version)]
    which = ("--recipe", recipe, *(("--version", version) if version else ()))
    return [f"Found on {name}: {Command('launch', which, name)}" for name in found]


def _has_image(name: str, recipe: str, version: str | None) -> bool:
    from launcher.images import find_image

    try:
        find_image(clouds.connect(name), recipe=recipe, version=version)
    except Exception:  # an error of another cloud must not hide the error of the requested one
        return False
    return True
