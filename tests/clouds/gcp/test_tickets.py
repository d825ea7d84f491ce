"""Another process, which reads a ticket in the ledger, can ask about the operation that a killed command has begun."""

from clouds.accounts import account_key
from clouds.driver import Base, BootSpec, Kind
from clouds.ledger import Ledger
from clouds.lifecycle import settle
from tests.clouds.gcp.stage import NewStage


def test_another_process_waits_for_the_end_of_an_operation(new_stage: NewStage) -> None:
    stage = new_stage()
    first = stage.connect()
    base = first.resolve_base(Base("trixie", "amd64"))
    spec = BootSpec(
        name="one", token="t", source=base.id, cpus=2, memory_mb=4096, disk_gb=max(10, base.disk_gb), labels={}, deadline_s=600
    )
    ticket = first.boot(spec)
    assert ticket.operation
    Ledger(stage.home / "ledger.sqlite3").begin(account_key(first), ticket)
    (read,) = Ledger(stage.home / "ledger.sqlite3").tickets("gcp.demo")
    second = stage.connect()
    settle(second, read)
    assert second.find(Kind.MACHINE, "one") is not None
