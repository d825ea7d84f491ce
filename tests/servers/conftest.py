"""What the tests of the servers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import ec2_asking
from tests.servers.ec2 import serve as serve_ec2
from tests.servers.ec2_asking import IMAGE_S, NOW, STATE_S
from tests.servers.gce import Gce, serve
from tests.servers.vm import ScriptedVms

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

OPERATION_S = 0.005


@pytest.fixture
def vms() -> ScriptedVms:
    """Give machines that follow a script."""
    return ScriptedVms()


@pytest.fixture
def gce(vms: ScriptedVms) -> Iterator[Gce]:
    """Give an empty Compute Engine, which must not have crashed at the end."""
    with serve(vms=vms, operation_s=OPERATION_S, hang_s=0.1) as server:
        yield server
        assert not server.crashes, "\n".join(server.crashes)


@pytest.fixture
def ec2(vms: ScriptedVms) -> Iterator[Ec2]:
    """Give an empty EC2, whose clock only `advance` moves, and which must not have crashed at the end."""
    with serve_ec2(vms=vms, state_s=STATE_S, image_s=IMAGE_S, hang_s=0.1, clock=lambda: NOW) as server:
        yield server
        assert not server.crashes, "\n".join(server.crashes)


@pytest.fixture
def api(ec2: Ec2) -> Any:
    """Give a boto3 client of that server, which does not retry."""
    return ec2_asking.client(ec2)
