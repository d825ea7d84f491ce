"""Lists: filter, order, pages, and the aggregated lists over all scopes."""

from __future__ import annotations

import base64
import binascii
import json

from tests.servers.gce.errors import Json, invalid
from tests.servers.gce.filters import parse
from tests.servers.gce.schema import Call, compute_v1
from tests.servers.gce.store import link

MOST_RESULTS = 500


def page(call: Call, kind: str, things: list[Json]) -> Json:
    """Return one page of a plain list."""
    chosen, more = _choose(call, kind, [("", thing) for thing in things])
    answer: Json = {"kind": f"{kind}List", "id": call.path, "selfLink": link(call.path), **more}
    if chosen:
        answer["items"] = [thing for _, thing in chosen]
    return answer


def aggregated_page(call: Call, kind: str, scopes: list[str], things: list[tuple[str, Json]], unreachable: list[str]) -> Json:
    """Return one page over all scopes; those without a result on it carry a warning, as the service has it.

    Fields and codes stand in the discovery document (InstanceAggregatedList.unreachables, the scoped list's warning.code:
    UNREACHABLE, "A given scope cannot be reached."). Message and form of the names in `unreachables` are a guess.
    """
    chosen, more = _choose(call, kind, [entry for entry in things if entry[0] not in unreachable])
    items: Json = {}
    for scope in scopes:
        found = [thing for place, thing in chosen if place == scope]
        warning = _unreachable(scope) if scope in unreachable else _no_results(scope)
        items[scope] = {call.collection: found} if found else {"warning": warning}
    answer = {"kind": f"{kind}AggregatedList", "id": call.path, "items": items, "selfLink": link(call.path), **more}
    return {**answer, "unreachables": unreachable} if unreachable else answer


def _no_results(scope: str) -> Json:
    return _warning("NO_RESULTS_ON_PAGE", f"There are no results for scope '{scope}' on this page.", scope)


def _unreachable(scope: str) -> Json:
    return _warning("UNREACHABLE", f"The scope '{scope}' cannot be reached.", scope)


def _warning(code: str, message: str, scope: str) -> Json:
    return {"code": code, "message": message, "data": [{"key": "scope", "value": scope}]}


def _choose(call: Call, kind: str, things: list[tuple[str, Json]]) -> tuple[list[tuple[str, Json]], Json]:
    """Return what stands on the page that is asked for, and the token of the next one."""
    item = kind[len("compute#")].upper() + kind[len("compute#") + 1 :]
    most = call.params.get("maxResults", MOST_RESULTS)
    if not 0 <= most <= MOST_RESULTS:
        raise invalid("maxResults", most, f"Must be between 0 and {MOST_RESULTS}, inclusive.")
    if text := call.params.get("filter"):
        is_wanted = parse(text, lambda field: compute_v1().is_atomic(item, field))
        things = [entry for entry in things if is_wanted(entry[1])]
    things = _ordered(call, things)
    start = _start(call.params.get("pageToken"))
    end = start + (most or MOST_RESULTS)
    return things[start:end], {"nextPageToken": _token(end)} if end < len(things) else {}


def _ordered(call: Call, things: list[tuple[str, Json]]) -> list[tuple[str, Json]]:
    order = call.params.get("orderBy") or "name"
    if order == "name":
        return things
    if order == "creationTimestamp desc":
        return sorted(
            things,
            key=lambda entry: (entry[1].get("creationTimestamp") or entry[1].get("insertTime"), int(entry[1]["id"])),
            reverse=True,
        )
    raise invalid("orderBy", order, "Sorting is only supported by 'name' or 'creationTimestamp desc'.")


def _token(start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"start": start}).encode()).decode()


def _start(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.urlsafe_b64decode(token))["start"])
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise invalid("pageToken", token, "The page token is invalid.") from None
