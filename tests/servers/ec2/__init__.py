"""A strict EC2, for tests: `with serve(vms=ScriptedVms(play)) as ec2`.

Importing this is cheap. The first `serve` imports moto, which takes seconds: keep imports of the other modules, boto3 and botocore
inside tests and fixtures.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from tests.servers.ec2.errors import (
    ApiError,
    LateError,
    insufficient_capacity,
    internal_error,
    plain_capacity_error,
    spot_limit,
    throttled,
    unauthorized,
    unavailable,
    vcpu_limit,
)
from tests.servers.ec2.faults import Page
from tests.servers.ec2.switches import Switches

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def serve(**options: Any) -> AbstractContextManager[Ec2]:
    """Run a server until the block ends; `tests.servers.ec2.server.serve` has the options."""
    from tests.servers.ec2 import server

    return server.serve(**options)


__all__ = [
    "ApiError",
    "Ec2",
    "LateError",
    "Page",
    "Switches",
    "insufficient_capacity",
    "internal_error",
    "plain_capacity_error",
    "serve",
    "spot_limit",
    "throttled",
    "unauthorized",
    "unavailable",
    "vcpu_limit",
]
