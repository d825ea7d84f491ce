"""What the tests of the servers share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.gce import Gce, serve
from tests.servers.vm import ScriptedVms

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
