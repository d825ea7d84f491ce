"""Run an action on all configured clouds, one after another; a failure on one does not affect the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import clouds
from clouds.errors import BakehouseError, UnreachableError
from launcher.command import hints
from launcher.command.hints import Command

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Cloud, Tell

ALL = "all"
T = TypeVar("T")


def visit(name: str | None, action: Callable[[Cloud], T], tell: Tell) -> tuple[list[T], bool]:
    """Run an action on a cloud, or with `all` on each configured one; return the results, and whether all succeeded.

    With `all`, the error of a cloud is printed and the cloud skipped; for a single cloud it is raised. If only a part of a cloud
    could not be reached, the error is printed, and the result covers the rest.
    """
    if name != ALL:
        try:
            return [action(clouds.connect(name))], True
        except UnreachableError as error:
            tell(f"error: {error.message}")
            tell(f"next: {error.next_step}")
            return [error.found], False  # type: ignore[list-item]  # it is what the action would have returned
    done: list[T] = []
    failed: list[str] = []
    for one in clouds.configured():
        try:
            done.append(action(clouds.connect(one)))
        except BakehouseError as error:
            if isinstance(error, UnreachableError):
                done.append(error.found)  # type: ignore[arg-type]
            failed.append(one)
            tell(f"{one}: {error.message}" + (f" ({hints.write(error.next_step, one)})" if error.next_step else ""))
    return done, not failed


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
