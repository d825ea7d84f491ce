"""What Google Cloud says when it refuses, told as our own errors: codes decide, never the text of a message.

Codes: cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability (capacity),
cloud.google.com/compute/docs/api/best-practices (throttling: 403 rateLimitExceeded), and the `reason` of an error's body.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from clouds.errors import (
    CapacityError,
    CloudError,
    ConflictError,
    DeniedError,
    FailedError,
    ForeignError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
)
from clouds.gcp.advice import advice

Json = Mapping[str, Any]

CAPACITY = frozenset(
    {
        "ZONE_RESOURCE_POOL_EXHAUSTED",
        "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS",
        "REGION_RESOURCE_POOL_EXHAUSTED",
        "RESOURCE_POOL_EXHAUSTED",
        "insufficientCapacity",
    }
)
QUOTA = frozenset({"QUOTA_EXCEEDED", "quotaExceeded"})
THROTTLED = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED", "RESOURCE_OPERATION_RATE_EXCEEDED"})
NOT_FOUND = frozenset({"notFound", "RESOURCE_NOT_FOUND"})
CONFLICT = frozenset({"alreadyExists", "RESOURCE_ALREADY_EXISTS"})
NOT_READY = frozenset({"resourceNotReady", "RESOURCE_NOT_READY"})
CHANGED = frozenset({"conditionNotMet", "CONDITION_NOT_MET"})
"""A fingerprint was that of an older state: read it again."""

_QUOTA_PAGE = "https://console.cloud.google.com/iam-admin/quotas"
_BY_STATUS = {401: DeniedError, 403: DeniedError, 404: NotFoundError, 409: ConflictError, 429: ThrottledError, 408: ThrottledError}
_NEXT_STEPS = {
    QuotaError: f"Ask for more at {_QUOTA_PAGE}, delete what you no longer need, or take a smaller --type.",
    DeniedError: "See that you are logged in (gcloud auth application-default login), that the project is right, that it has "
    "Compute Engine (gcloud services enable compute.googleapis.com), and that you have the permissions in docs/clouds.md.",
    ThrottledError: "Try again in a minute.",
    NotFoundError: "See: ./inv machines --cloud all; ./inv images --cloud all",
    CapacityError: "Try later, another --zone or --region, or another --type.",
    FailedError: "Try again; if it fails again, try another --zone, and see https://status.cloud.google.com.",
}
_OF_THE_SERVICE_ALONE = frozenset({404, 409, 412})
"""Statuses by which the service states a fact, always with JSON; without any a proxy or a portal has answered."""


class ChangedError(InvalidError):
    """What was to be changed has been changed by somebody else meanwhile."""


class NotReadyError(InvalidError):
    """The thing is there, but in a state in which it cannot do this."""


_OF_VALUES = (InvalidError, ChangedError, NotFoundError)
"""The refusals that may be due to a value of the user's: a policy's arrives as conditionNotMet."""


def of_answer(what: str, status: int, body: Json | None) -> CloudError:
    """Return the error behind an answer that is no success: `what` was asked about; `body` is its JSON, None without any.

    The service puts an object into `error`; JSON without one, such as a gateway's {"error": "access_denied"}, is not its own.
    """
    error = (body or {}).get("error")
    if not isinstance(error, dict):
        if status < 400 or status in _OF_THE_SERVICE_ALONE:
            return foreign(what, status, "it is not JSON" if body is None else "it has not the form of its answers")
        error = {}
    first: Json = next((one for one in error.get("errors") or () if isinstance(one, dict)), {})
    return _of_code(what, first.get("reason", ""), first.get("message") or error.get("message") or f"HTTP status {status}", status)


def foreign(what: str, status: int, why: str) -> ForeignError:
    """Return the error of an answer that something else has sent in the place of Compute Engine; `why` is how that shows."""
    return ForeignError(
        f"{what}: the answer (HTTP status {status}) is not from Compute Engine: {why}",
        next_step="See whether this network wants you to log in (open any web page), and what HTTPS_PROXY is; try again.",
    )


def of_operation(what: str, operation: Json, zone: str = "") -> CloudError:
    """Return the error with which an operation has ended; the one that says most, when there are several.

    An operation that has ended stays as it is, so no error of one is worth another question: what would be throttling in an
    answer is FailedError here (INTERNAL_ERROR comes with httpErrorStatusCode 503: ubicloud/ubicloud#5495).
    """
    errors = sorted(operation["error"].get("errors", ()), key=lambda error: error.get("code", "") not in CAPACITY | QUOTA)
    status = int(operation.get("httpErrorStatusCode") or 400)
    first: Json = next(iter(errors), {})
    message = first.get("message") or operation.get("httpErrorMessage") or f"the operation failed with HTTP status {status}"
    found = _of_code(what, first.get("code", ""), message, status)
    if isinstance(found, ThrottledError):
        found = FailedError(found.message, next_step=_NEXT_STEPS[FailedError])
    if isinstance(found, CapacityError):
        found.zone, found.zones = zone, tuple(_zones_available(first))
    return found


def _of_code(what: str, code: str, message: str, status: int) -> CloudError:
    kind = _kind(code, status)
    told = f"{what}: {message.strip()}" + (f" ({code})" if code and code not in message else "")
    return kind(told, next_step=(advice(message) if kind in _OF_VALUES else "") or _NEXT_STEPS.get(kind, ""))


def _kind(code: str, status: int) -> type[CloudError]:
    by_code: tuple[tuple[frozenset[str], type[CloudError]], ...] = (
        (CAPACITY, CapacityError),
        (QUOTA, QuotaError),
        (THROTTLED, ThrottledError),
        (NOT_FOUND, NotFoundError),
        (CONFLICT, ConflictError),
        (NOT_READY, NotReadyError),
        (CHANGED, ChangedError),
    )
    for codes, kind in by_code:
        if code in codes:
            return kind
    if status >= 500:
        return ThrottledError
    return _BY_STATUS.get(status, InvalidError)


def _zones_available(error: Json) -> Iterator[str]:
    """Yield the zones that an error's details name (`zonesAvailable`, with commas)."""
    for detail in error.get("errorDetails", ()):
        zones = detail.get("errorInfo", {}).get("metadatas", {}).get("zonesAvailable", "")
        yield from (zone.strip() for zone in zones.split(",") if zone.strip())
