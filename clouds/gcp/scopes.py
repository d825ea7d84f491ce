"""Lists over all zones and regions: what could not be reached is told, and never taken for empty."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clouds.gcp.calls import Calls
from clouds.incomplete import whole

_INCOMPLETE = frozenset({"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"})
"""The codes of a warning after which results are missing (discovery document of compute v1: InstancesScopedList.warning.code)."""


def everywhere(calls: Calls, kind: str, expression: str) -> list[dict[str, Any]]:
    """Return what a filter lists in every zone or region; `kind` is the collection, such as `instances`.

    UnreachableError: a zone did not answer; it carries what the others hold. Without returnPartialSuccess, which gcloud sends too,
    one zone that is out of reach fails the whole list.
    """
    found: list[dict[str, Any]] = []
    missing: set[str] = set()
    for page in calls.pages(kind, f"aggregated/{kind}", expression, returnPartialSuccess="true"):
        missing.update(_unreachable(page))
        for scope in page.get("items", {}).values():
            found += scope.get(kind, ())
    return whole(f"{kind} of gcp", found, missing)


def _unreachable(page: Mapping[str, Any]) -> Iterator[str]:
    """Yield the zones and regions whose results are missing from a page."""
    named = [*page.get("unreachables", ())]
    named += [scope for scope, content in page.get("items", {}).items() if _is_incomplete(content)]
    yield from (name.rpartition("/")[2] for name in named)
    if not named and _is_incomplete(page):
        yield "a zone that the answer does not name"


def _is_incomplete(content: Mapping[str, Any]) -> bool:
    return content.get("warning", {}).get("code") in _INCOMPLETE
