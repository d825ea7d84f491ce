"""A strict Compute Engine, for tests: `with serve(vms=ScriptedVms(play)) as gce`."""

from tests.servers.gce.errors import ApiError, rate_limit_exceeded
from tests.servers.gce.faults import quota_error, stock_out
from tests.servers.gce.operations import OperationError
from tests.servers.gce.server import Gce, Served, serve

__all__ = ["ApiError", "Gce", "OperationError", "Served", "quota_error", "rate_limit_exceeded", "serve", "stock_out"]
