"""Lists of which a part is missing: what was found is used, and nothing is concluded about the rest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from clouds.errors import UnreachableError

T = TypeVar("T")


def partly(ask: Callable[[], Sequence[T]]) -> tuple[Sequence[T], tuple[str, ...]]:
    """Return what could be found, and the zones that could not be reached (none: the list is whole)."""
    try:
        return ask(), ()
    except UnreachableError as error:
        return error.found, error.scopes


def whole(what: str, found: Iterable[T], missing: Collection[str]) -> list[T]:
    """Return what was found. UnreachableError, which carries it: zones are missing; `what` is what they were asked for."""
    if missing:
        raise UnreachableError(what, scopes=missing, found=list(found))
    return list(found)
