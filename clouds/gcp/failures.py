"""What Google Cloud says when it refuses, told as our own errors: codes decide, never the text of a message.

Codes: cloud.google.com/compute/docs/troubleshooting/troubleshooting-resource-availability (capacity),
cloud.google.com/compute/docs/api/best-practices (throttling: 403 rateLimitExceeded), and the `reason` of an error's body.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from google.api_core.exceptions import GoogleAPICallError
    from requests import Response

    from clouds.gcp import sdk

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


def of_refusal(what: str, error: GoogleAPICallError) -> CloudError:
    """Return the error behind a refusal of the service: `what` was asked about."""
    first: Mapping[str, Any] = next(iter(error.errors), {})
    message = first.get("message") or error.response.json()["error"].get("message", "")
    return _of_status(what, first.get("reason", ""), message, error.response)


def of_foreign(what: str, response: Response, *, is_json: bool) -> CloudError:
    """Return the error behind an answer that has not the form of the service's, such as a gateway's {"error": "access_denied"}."""
    if response.status_code < 400 or response.status_code in _OF_THE_SERVICE_ALONE:
        return foreign(what, response.status_code, "it has not the form of its answers" if is_json else "it is not JSON")
    return _of_status(what, "", "", response)


def _of_status(what: str, code: str, message: str, response: Response) -> CloudError:
    status = response.status_code
    found = _of_code(what, code, message or f"HTTP status {status}", status)
    if isinstance(found, ThrottledError):
        found.retry_after_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
    return found


def retry_after_s(header: str, now: float) -> float:
    """Return the seconds that a header Retry-After asks for: a number, or a date (RFC 9110, 10.2.3). 0: it asks for nothing."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return 0.0


def foreign(what: str, status: int, why: str) -> ForeignError:
    """Return the error of an answer that something else has sent in the place of Compute Engine; `why` is how that shows."""
    return ForeignError(
        f"{what}: the answer (HTTP status {status}) is not from Compute Engine: {why}",
        next_step="See whether this network wants you to log in (open any web page), and what HTTPS_PROXY is; try again.",
    )


def of_operation(what: str, operation: sdk.compute.Operation, zone: str = "") -> CloudError:
    """Return the error with which an operation has ended; the one that says most, when there are several.

    An operation that has ended stays as it is, so no error of one is worth another question: what would be throttling in an
    answer is FailedError here (INTERNAL_ERROR comes with httpErrorStatusCode 503: ubicloud/ubicloud#5495).
    """
    errors = sorted(operation.error.errors, key=lambda error: error.code not in CAPACITY | QUOTA)
    status = operation.http_error_status_code or 400
    first = errors[0] if errors else None
    message = (first and first.message) or operation.http_error_message or f"the operation failed with HTTP status {status}"
    found = _of_code(what, first.code if first else "", message, status)
    if isinstance(found, ThrottledError):
        found = FailedError(found.message, next_step=_NEXT_STEPS[FailedError])
    if isinstance(found, CapacityError):
        found.zone, found.zones = zone, tuple(_zones_available(first) if first else ())
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


def _zones_available(error: sdk.compute.Errors) -> Iterator[str]:
    """Yield the zones that an error's details name (`zonesAvailable`, with commas)."""
    for detail in error.error_details:
        zones = detail.error_info.metadatas.get("zonesAvailable", "")
        yield from (zone.strip() for zone in zones.split(",") if zone.strip())
