"""List resources over all zones and regions: one that cannot be reached is reported, and never counts as empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from clouds.gcp.client import Client
from clouds.incomplete import whole

_INCOMPLETE = frozenset({"UNREACHABLE", "PARTIAL_SUCCESS", "LIST_OVERHEAD_QUOTA_EXCEED"})
"""Warning codes that mean missing results (discovery document of compute v1: InstancesScopedList.warning.code)."""


def everywhere(client: Client, kind: str, expression: str) -> list[Any]:
    """Return the filtered resources of every zone or region; `kind` is the service, such as `machine_types`.

    UnreachableError: a zone did not answer; the error carries the results of the others. session.py adds returnPartialSuccess, as
    gcloud does: without it, one unreachable zone fails the whole list.
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
        yield "an unnamed zone"


def _is_incomplete(content: Any) -> bool:
    return content.warning.code in _INCOMPLETE
