"""Incomplete lists: use what was found, and conclude nothing about the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from clouds.errors import UnreachableError

T = TypeVar("T")


def partly(ask: Callable[[], Sequence[T]]) -> tuple[Sequence[T], tuple[str, ...]]:
    """Return what was found, and the zones that could not be reached (none: the list is complete)."""
    try:
        return ask(), ()
    except UnreachableError as error:
        return error.found, error.scopes


def whole(what: str, found: Iterable[T], missing: Collection[str]) -> list[T]:
    """Return a list if no zones are missing; otherwise raise UnreachableError with it. `what` names the list."""
    if missing:
        raise UnreachableError(what, scopes=missing, found=list(found))
    return list(found)
