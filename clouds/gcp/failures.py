"""Turn errors of Google Cloud into our own: by their codes, never by the text of a message.

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
"""The fingerprint is outdated: read the resource again."""

QUOTA_PAGE = "https://console.cloud.google.com/iam-admin/quotas"
_BY_STATUS = {401: DeniedError, 403: DeniedError, 404: NotFoundError, 409: ConflictError, 429: ThrottledError, 408: ThrottledError}
_NEXT_STEPS = {
    QuotaError: f"Request a higher quota at {QUOTA_PAGE}, delete what you no longer need, or use a smaller --type.",
    DeniedError: "Check that you are logged in (gcloud auth application-default login), that the project is right, that Compute "
    "Engine is enabled (gcloud services enable compute.googleapis.com), and that you have the permissions in docs/permissions.md.",
    ThrottledError: "Try again in a minute.",
    NotFoundError: "See: ./inv machines --cloud all; ./inv images --cloud all",
    CapacityError: "Try again later, or with another --zone, --region or --type.",
    FailedError: "Try again; if it fails again, try another --zone, and see https://status.cloud.google.com.",
}
_OF_THE_SERVICE_ALONE = frozenset({404, 409, 412})
"""Statuses that the service always sends with JSON: without it, the answer is from a proxy or a portal."""


class ChangedError(InvalidError):
    """The resource was changed by another client since it was read."""


class NotReadyError(InvalidError):
    """The resource exists, but its state does not permit the operation."""


_OF_VALUES = (InvalidError, ChangedError, NotFoundError)
"""Rejections that may be caused by a user's value; those of a policy arrive as conditionNotMet."""


def of_refusal(what: str, error: GoogleAPICallError) -> CloudError:
    """Return our error for an error response of the service; `what` names the subject of the request."""
    first: Mapping[str, Any] = next(iter(error.errors), {})
    message = first.get("message") or error.response.json()["error"].get("message", "")
    return _of_status(what, first.get("reason", ""), message, error.response)


def of_foreign(what: str, response: Response, *, is_json: bool) -> CloudError:
    """Return our error for an answer in another format than the service's, such as a gateway's {"error": "access_denied"}."""
    if response.status_code < 400 or response.status_code in _OF_THE_SERVICE_ALONE:
        return foreign(what, response.status_code, "unexpected format" if is_json else "not JSON")
    return _of_status(what, "", "", response)


def _of_status(what: str, code: str, message: str, response: Response) -> CloudError:
    status = response.status_code
    found = _of_code(what, code, message or f"HTTP status {status}", status)
    if isinstance(found, ThrottledError):
        found.retry_after_s = retry_after_s(response.headers.get("Retry-After", ""), time.time())
    return found


def retry_after_s(header: str, now: float) -> float:
    """Return the seconds in a header Retry-After, a number or a date (RFC 9110, 10.2.3); 0 if it is empty or invalid."""
    if header.strip().isdecimal():
        return float(header)
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - now)
    except ValueError:
        return 0.0


def foreign(what: str, status: int, why: str) -> ForeignError:
    """Return the error for an answer that is not from Compute Engine; `why` says how that was detected."""
    return ForeignError(
        f"{what}: the answer (HTTP status {status}) is not from Compute Engine: {why}",
        next_step="Check whether this network requires a login (open any web page), and check HTTPS_PROXY; try again.",
    )


def of_operation(what: str, operation: sdk.compute.Operation, zone: str = "") -> CloudError:
    """Return the error of a failed operation; the most specific one if there are several.

    A failed operation stays failed, so its errors are not retried: what would be a ThrottledError for a request is a FailedError
    here (INTERNAL_ERROR comes with httpErrorStatusCode 503: ubicloud/ubicloud#5495).
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
    """Yield the zones in an error's details (`zonesAvailable`, separated by commas)."""
    for detail in error.error_details:
        zones = detail.error_info.metadatas.get("zonesAvailable", "")
        yield from (zone.strip() for zone in zones.split(",") if zone.strip())
