"""Lists over all zones and regions: what could not be reached is told, and never taken for empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clouds.gcp.client import Client
from clouds.incomplete import whole

_INCOMPLETE = frozenset({"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"})
"""The codes of a warning after which results are missing (discovery document of compute v1: InstancesScopedList.warning.code)."""


def everywhere(client: Client, kind: str, expression: str) -> list[Any]:
    """Return what a filter lists in every zone or region; `kind` is the service, such as `machine_types`.

    UnreachableError: a zone did not answer; it carries what the others hold. Without returnPartialSuccess, which gcloud sends too
    (session.py adds it), one zone that is out of reach fails the whole list.
    """
    found: list[Any] = []
    what = kind.replace("_", " ")
    missing: set[str] = set()
    for page in client.pages(what, getattr(client.services, kind).aggregated_list, expression):
        missing.update(_unreachable(page))
        for scope in page.items.values():
            found += getattr(scope, kind)
    return whole(f"{what} of gcp", found, missing)


def _unreachable(page: Any) -> Iterator[str]:
    """Yield the zones and regions whose results are missing from a page."""
    named = [*page.unreachables]
    named += [scope for scope, content in page.items.items() if _is_incomplete(content)]
    yield from (name.rpartition("/")[2] for name in named)
    if not named and _is_incomplete(page):
        yield "a zone that the answer does not name"


def _is_incomplete(content: Any) -> bool:
    return content.warning.code in _INCOMPLETE
