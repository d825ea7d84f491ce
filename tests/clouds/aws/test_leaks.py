"""Whatever happens while a machine is made, undo leaves nothing of it, and nothing of anybody else's is touched."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from clouds import names
from clouds.aws import session
from clouds.driver import Base, BootSpec
from clouds.errors import BakehouseError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from tests.clouds.aws.stage import Cloud, Stage
from tests.servers.ec2 import LateError, internal_error, plain_capacity_error

pytestmark = pytest.mark.server
WRITES = ("CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances")


def fail(action: str, when: str, error: object, stage: Stage, cloud: Cloud) -> None:
    stage.server.fault(action, when=when, error=error)


def interrupt(action: str, event: str, stage: Stage, cloud: Cloud) -> None:
    """Press Ctrl-C right before or after a request."""
    struck: list[str] = []

    def press(**_: object) -> None:
        if not struck:
            struck.append(action)
            raise KeyboardInterrupt

    cloud._client._session._session.events.register(f"{event}.ec2.{action}", press)


TROUBLE: dict[str, Callable[[Stage, Cloud], None]] = {
    **{
        f"{action} fails {when}": partial(fail, action, when, internal_error()) for action in WRITES for when in ("before", "after")
    },
    **{f"{action} is not answered": partial(fail, action, "after", "hang") for action in WRITES},
    **{
        f"{action} Ctrl-C {event}": partial(interrupt, action, event)
        for action in WRITES
        for event in ("before-call", "after-call")
    },
    "no capacity": partial(fail, "RunInstances", "before", plain_capacity_error()),
    "fails late": partial(fail, "RunInstances", "before", LateError("Server.InternalError", "Server.InternalError: it went wrong")),
}


@pytest.mark.matrix(sample=12)
@pytest.mark.parametrize("unseen", [0, 2])
@pytest.mark.parametrize("trouble", TROUBLE)
def test_nothing_is_left_of_a_machine_that_was_not_made(
    stage: Stage, trouble: str, unseen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "ATTEMPTS", 1)
    cloud = stage.connect()
    other = stage.boot(name="other")["ImageId"]
    before = stage.left()
    spec = BootSpec(
        name="mine",
        token=names.new_nonce(),
        source=cloud.resolve_base(Base("trixie", "amd64")).id,
        cpus=2,
        memory_mb=2048,
        disk_gb=8,
        labels={"role": "machine", **names.client_labels()},
        deadline_s=3600,
        ports=(22,),
    )
    assert spec.source == other
    stage.server.switches.unseen_calls = unseen
    TROUBLE[trouble](stage, cloud)
    with pytest.raises((BakehouseError, KeyboardInterrupt)) as caught, Undo() as undo:
        create_machine(cloud, Ledger(stage.home / "ledger.sqlite3"), undo, spec)
        raise KeyboardInterrupt  # where the trouble was not noticed
    assert getattr(caught.value, "__notes__", []) == []
    assert stage.left() == before
