"""Faults that tests order: an HTTP error before or after the effect, an error in the operation, an answer that never comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.servers.gce.errors import ApiError, Json
from tests.servers.gce.operations import OperationError
from tests.servers.gce.schema import Call

Error = ApiError | OperationError | Callable[[], None] | Literal["hang"]
POSITIONS = ("before", "after")


class Hang(Exception):  # noqa: N818
    """The connection is held, and closed without an answer."""


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
        elif isinstance(self.error, ApiError):
            raise self.error
        else:
            assert callable(self.error)
            self.error()


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
