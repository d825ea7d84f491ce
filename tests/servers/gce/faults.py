"""Faults that tests order: an HTTP error before or after the effect, an error in the operation, a page, no answer at all."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Literal

from tests.servers.gce.errors import ApiError, Json, backend_error
from tests.servers.gce.operations import OperationError
from tests.servers.gce.schema import Call

POSITIONS = ("before", "after")


class Hang(Exception):  # noqa: N818
    """The connection is held, and closed without an answer."""


class Page(Exception):  # noqa: N818
    """The answer is an HTML page with status 200, as a captive portal sends it in the service's place."""

    def __init__(self, text: str = "<!DOCTYPE html><html><title>Log in</title><p>Log in to use this network.</html>") -> None:
        super().__init__(text)
        self.text = text


Error = ApiError | OperationError | Page | Callable[[], None] | Literal["hang"]


@dataclass(slots=True)
class Fault:
    method_id: str
    when: str
    error: Error
    nth: int | None
    seen: int = 0

    def is_due(self, method_id: str) -> bool:
        if method_id != self.method_id:
            return False
        self.seen += 1
        return self.nth is None or self.seen == self.nth

    def strike(self, call: Call) -> None:
        if self.error == "hang":
            raise Hang
        if isinstance(self.error, OperationError):
            call.operation_fault = (self.when, self.error)
        elif isinstance(self.error, (ApiError, Page)):
            raise self.error
        else:
            assert callable(self.error)
            self.error()


def unavailable(*, retry_after: float | datetime) -> ApiError:
    """Return a 503 with Retry-After: seconds, or the time as an HTTP date (RFC 9110, 10.2.3)."""
    return backend_error(retry_after=_retry_after(retry_after))


def too_many_requests(*, retry_after: float | datetime) -> ApiError:
    """Return a 429 with Retry-After.

    https://cloud.google.com/service-usage/docs/troubleshooting has 429 for quotas; reason and text are a guess.
    """
    return ApiError(429, "rateLimitExceeded", "Too Many Requests", domain="usageLimits", retry_after=_retry_after(retry_after))


def _retry_after(when: float | datetime) -> str:
    """Return whole seconds, rounded up, or an HTTP date."""
    return format_datetime(when.astimezone(UTC), usegmt=True) if isinstance(when, datetime) else str(math.ceil(when))


def internal_error() -> OperationError:
    """Return what ends an operation: https://github.com/hashicorp/terraform-provider-google/issues/1961."""
    return OperationError("INTERNAL_ERROR", backend_error().message, 500, "INTERNAL SERVER ERROR")


def not_compatible(*features: str) -> ApiError:
    """Return the other words for a disk type that a machine type refuses: https://github.com/DataBiosphere/dsub/issues/301.

    `features` are disk type and machine type; the server's own words are those of `resources/drives.py`.
    """
    return ApiError(400, "badRequest", f"[{', '.join(features)}] features are not compatible for creating instance.")


def stock_out(zone: str, machine_type: str, *, available: str = "", is_plain: bool = False) -> OperationError:
    """Return what arrives in the operation when a zone has no room; `available` names zones that have, comma-separated."""
    message = (
        f"The zone 'projects/demo/zones/{zone}' does not have enough resources available to fulfill the request.  "
        f"'(resource type:compute)'."
    )
    if is_plain:
        return OperationError("ZONE_RESOURCE_POOL_EXHAUSTED", message)
    metadata = {"vmType": machine_type, "attachment": "", "zone": zone, "zonesAvailable": available}
    info = {"reason": "resource_availability", "domain": "compute.googleapis.com", "metadatas": metadata}
    text = f"The {machine_type} VM instance is currently unavailable in the {zone} zone."
    details: list[Json] = [{"errorInfo": info}, {"localizedMessage": {"locale": "en-US", "message": text}}]
    return OperationError("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", message, details=details)


def quota_error(metric: str, limit: float, region: str) -> OperationError:
    """Return a quota error that arrives in the operation."""
    info = {
        "metricName": f"compute.googleapis.com/{metric.lower()}",
        "limitName": f"{metric}-per-project-region",
        "dimensions": {"region": region},
        "limit": limit,
    }
    message = f"Quota '{metric}' exceeded.  Limit: {limit:.1f} in region {region}."
    return OperationError("QUOTA_EXCEEDED", message, 403, "FORBIDDEN", [{"quotaInfo": info}])
