"""A strict Compute Engine, for tests: `with serve(vms=ScriptedVms(play)) as gce`."""

from tests.servers.gce.errors import ApiError, backend_error, rate_limit_exceeded
from tests.servers.gce.faults import (
    Page,
    internal_error,
    not_compatible,
    quota_error,
    stock_out,
    too_many_requests,
    unavailable,
)
from tests.servers.gce.operations import OperationError
from tests.servers.gce.server import Gce, Served, serve
from tests.servers.gce.switches import Switches

__all__ = [
    "ApiError",
    "Gce",
    "OperationError",
    "Page",
    "Served",
    "Switches",
    "backend_error",
    "internal_error",
    "not_compatible",
    "quota_error",
    "rate_limit_exceeded",
    "serve",
    "stock_out",
    "too_many_requests",
    "unavailable",
]
