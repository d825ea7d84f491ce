"""A boot that EC2 does not answer, or for which it has no room: nothing is left, and nothing of it is told twice."""

from __future__ import annotations

from typing import Any

import pytest

from clouds import names
from clouds.aws import session
from clouds.driver import Base, BootSpec
from clouds.errors import BakehouseError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import plain_capacity_error

pytestmark = pytest.mark.server
TROUBLE: dict[str, tuple[str, str, Any]] = {
    "CreateSecurityGroup is not answered": ("CreateSecurityGroup", "after", "hang"),
    "AuthorizeSecurityGroupIngress is not answered": ("AuthorizeSecurityGroupIngress", "after", "hang"),
    "RunInstances is not answered": ("RunInstances", "after", "hang"),
    "no capacity": ("RunInstances", "before", plain_capacity_error()),
}


@pytest.mark.matrix(sample=1, edges=["RunInstances is not answered-2", "no capacity-0"])
@pytest.mark.parametrize("unseen", [0, 2])
@pytest.mark.parametrize("trouble", TROUBLE)
def test_nothing_is_left_of_a_machine_that_was_not_made(
    stage: Stage, counted_waits: None, trouble: str, unseen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    cloud = stage.connect()
    source = cloud.resolve_base(Base("trixie", "amd64")).id
    stage.boot(cloud, name="other", source=source)
    before = stage.left()
    labels = {"role": "machine", **names.client_labels()}
    size = {"cpus": 2, "memory_mb": 2048, "disk_gb": 8, "deadline_s": 3600}
    spec = BootSpec(name="mine", token=names.new_nonce(), source=source, labels=labels, ports=(22,), **size)
    stage.server.switches.unseen_calls, stage.server.switches.writes_count = unseen, True
    action, when, error = TROUBLE[trouble]
    stage.server.fault(action, when=when, error=error)
    with pytest.raises((BakehouseError, KeyboardInterrupt)) as caught, Undo() as undo:
        create_machine(cloud, Ledger(stage.home / "ledger.sqlite3"), undo, spec)
        raise KeyboardInterrupt  # where the trouble was not noticed
    assert getattr(caught.value, "__notes__", []) == []
    assert stage.left() == before
