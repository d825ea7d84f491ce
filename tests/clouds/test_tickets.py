"""An operation outlives the command that asked for it: its ticket is in the ledger, and another process can ask about it."""

import time
from pathlib import Path

import pytest

from clouds.accounts import account_key
from clouds.driver import BootSpec, Kind, Ticket
from clouds.errors import CloudError, TimedOutError, UnreachableError
from clouds.ledger import Ledger
from clouds.lifecycle import has_ended, perform
from clouds.names import client_labels
from launcher import gc
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

TICKET = Ticket("boot", Kind.MACHINE, "a", "zones/x/operations/1")
DEAD = {"client-pid": "4194999"}


class SlowCloud(FakeCloud):
    """A cloud with operations: `results` says of each whether it has ended, or how."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.results: dict[str, bool | CloudError] = {}

    def check(self, ticket: Ticket) -> bool:
        result = self.results.get(ticket.operation, True)
        if isinstance(result, CloudError):
            raise result
        return result


@pytest.fixture
def slow(world: World) -> SlowCloud:
    return SlowCloud(world)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3")


def test_ticket_is_read_by_another_process_as_it_was_written(ledger: Ledger, tmp_path: Path) -> None:
    ledger.begin("fake", TICKET)
    assert Ledger(tmp_path / "ledger.sqlite3").tickets("fake") == [TICKET]
    assert ledger.tickets("other") == []
    ledger.end("fake", TICKET)
    assert ledger.tickets("fake") == []


def test_end_of_an_operation_leaves_the_note_of_the_next_one(ledger: Ledger) -> None:
    later = Ticket("boot", Kind.MACHINE, "a", "zones/y/operations/2")
    for ticket in (TICKET, later):
        ledger.begin("fake", ticket)
    ledger.end("fake", TICKET)
    assert ledger.tickets("fake") == [later]


def test_ticket_is_noted_until_its_operation_has_ended(slow: SlowCloud, ledger: Ledger) -> None:
    seen: list[Ticket] = []
    slow.check = lambda ticket: seen.extend(ledger.tickets("fake")) or True  # type: ignore[method-assign, func-returns-value]
    perform(slow, ledger, TICKET)
    assert (seen, ledger.tickets("fake")) == ([TICKET], [])


def test_operation_that_fails_has_ended_and_one_that_is_late_has_not(slow: SlowCloud, ledger: Ledger) -> None:
    slow.results[TICKET.operation] = CloudError("no")
    with pytest.raises(CloudError, match="no"):
        perform(slow, ledger, TICKET)
    assert ledger.tickets("fake") == []
    slow.results[TICKET.operation] = False
    with pytest.raises(TimedOutError):
        perform(slow, ledger, TICKET, timeout_s=0.01)
    assert ledger.tickets("fake") == [TICKET]


def test_operation_that_cannot_be_asked_about_has_not_ended(slow: SlowCloud) -> None:
    slow.results[TICKET.operation] = UnreachableError("operation", scopes=["x"], found=[])
    assert not has_ended(slow, TICKET)
    slow.results[TICKET.operation] = CloudError("it has failed")
    assert has_ended(slow, TICKET)


def test_gc_keeps_the_note_of_what_a_killed_command_asked_for_while_it_may_still_appear(slow: SlowCloud, ledger: Ledger) -> None:
    ledger.ask(account_key(slow), Kind.MACHINE, "a", client_labels() | DEAD | {"role": "builder"})
    ledger.begin(account_key(slow), TICKET)
    slow.results[TICKET.operation] = False
    gc.forget_absent(slow, ledger, now=time.time())
    assert [entry.name for entry in ledger.entries("fake")] == ["a"]
    spec = BootSpec(name="a", token="a", source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels={}, deadline_s=0)
    slow.boot(spec)  # it comes after all, and bears no labels yet
    slow.results[TICKET.operation] = True
    gc.forget_absent(slow, ledger, now=time.time())
    assert ledger.tickets("fake") == []
    gc.collect(slow, ledger, gc.find(slow, ledger, now=0))
    assert (slow.world.inventory(), ledger.entries("fake")) == ([], [])


def test_gc_forgets_what_did_not_come_once_its_operation_has_ended(slow: SlowCloud, ledger: Ledger) -> None:
    ledger.ask("fake", Kind.MACHINE, "a", client_labels() | DEAD)
    ledger.begin("fake", TICKET)
    slow.results[TICKET.operation] = CloudError("out of capacity")
    gc.forget_absent(slow, ledger, now=time.time())
    assert (ledger.tickets("fake"), ledger.entries("fake")) == ([], [])
