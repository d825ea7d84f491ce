from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clouds import lifecycle, names
from clouds.driver import BootSpec, Kind, State, Ticket
from clouds.errors import CapacityError, ConflictError, DeniedError, InvalidError, TimedOutError
from clouds.ledger import Ledger
from clouds.lifecycle import POLL_S, create_image, create_machine, is_running, remove, settle, stop_machine
from clouds.undo import Undo
from clouds.waiter import until
from tests.fake_cloud import FakeCloud

SPEC = BootSpec(
    name="a", token="token-1", source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels={"role": "builder"}, deadline_s=0
)
OTHERS = replace(SPEC, token="token-2", labels={"role": "machine"})
IMAGE_LABELS = {"bake": "bake-1", "role": "image-in-progress"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3")


def entries(ledger: Ledger) -> list[str]:
    return [entry.name for entry in ledger.entries("fake")]


def make_stopped(fake: FakeCloud) -> None:
    fake.boot(SPEC)
    fake.stop("a")


def test_created_machine_runs_and_stands_in_the_ledger(fake: FakeCloud, ledger: Ledger) -> None:
    with Undo() as undo:
        create_machine(fake, ledger, undo, SPEC)
        undo.release()
    assert is_running(fake, "a")
    assert entries(ledger) == ["a"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["boot", "check"])
def test_machine_whose_creation_fails_is_removed_and_forgotten(fake: FakeCloud, ledger: Ledger, operation: str, when: str) -> None:
    fake.fault(operation, when=when, error=CapacityError("full"))
    with pytest.raises(CapacityError), Undo() as undo:
        create_machine(fake, ledger, undo, SPEC)
    assert fake.world.inventory() == []
    assert entries(ledger) == []


def test_what_is_done_in_a_moment_is_not_waited_for_much_longer(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    slept_s: list[float] = []

    def check(_ticket: Ticket) -> bool:
        asked.append(True)
        return len(asked) == 5

    fake.check = check  # type: ignore[method-assign]
    monkeypatch.setattr(lifecycle, "until", partial(until, sleep=slept_s.append))
    settle(fake, Ticket("boot", Kind.MACHINE, "a"))
    assert len(slept_s) == 4
    assert sum(slept_s) < 3 * POLL_S


def test_machine_is_in_the_ledger_before_it_is_asked_for(fake: FakeCloud, ledger: Ledger) -> None:
    seen: list[str] = []
    fake.fault("boot", error=lambda: seen.extend(entries(ledger)))
    with Undo() as undo:
        create_machine(fake, ledger, undo, SPEC)
    assert seen == ["a"]


def test_machine_of_somebody_else_with_the_same_name_is_left_alone(fake: FakeCloud, ledger: Ledger) -> None:
    with Undo() as undo:
        create_machine(fake, ledger, undo, OTHERS)
        undo.release()
    with pytest.raises(ConflictError), Undo() as undo:
        create_machine(fake, ledger, undo, SPEC)
    assert fake.world.inventory() == ["machine a running"]


def test_created_image_is_ready_and_stands_in_the_ledger(fake: FakeCloud, ledger: Ledger) -> None:
    make_stopped(fake)
    with Undo() as undo:
        create_image(fake, ledger, undo, "a", "image-1", IMAGE_LABELS)
        undo.release()
    image = fake.find(Kind.IMAGE, "image-1")
    assert image and (image.state, image.labels) == (State.READY, IMAGE_LABELS)
    assert entries(ledger) == ["image-1"]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", ["snapshot", "check"])
def test_image_whose_making_fails_is_removed_and_forgotten(fake: FakeCloud, ledger: Ledger, operation: str, when: str) -> None:
    make_stopped(fake)
    fake.fault(operation, when=when, error=CapacityError("full"))
    with pytest.raises(CapacityError), Undo() as undo:
        create_image(fake, ledger, undo, "a", "image-1", IMAGE_LABELS)
    assert fake.world.inventory() == ["machine a stopped"]
    assert entries(ledger) == []


def test_image_of_somebody_else_with_the_same_name_is_left_alone(fake: FakeCloud, ledger: Ledger) -> None:
    make_stopped(fake)
    fake.snapshot("a", "image-1", {**IMAGE_LABELS, "bake": "bake-2"})
    with pytest.raises(ConflictError), Undo() as undo:
        create_image(fake, ledger, undo, "a", "image-1", IMAGE_LABELS)
    assert "image image-1 pending" in fake.world.inventory()


def test_image_of_a_running_machine_is_refused(fake: FakeCloud, ledger: Ledger) -> None:
    fake.boot(SPEC)
    with pytest.raises(InvalidError), Undo() as undo:
        create_image(fake, ledger, undo, "a", "image-1", IMAGE_LABELS)
    assert fake.world.images == {}


def test_ledger_remembers_what_could_not_be_removed(fake: FakeCloud, ledger: Ledger) -> None:
    fake.fault("delete", error=DeniedError("not allowed"))
    with pytest.raises(CapacityError) as raised, Undo() as undo:
        create_machine(fake, ledger, undo, SPEC)
        raise CapacityError("full")
    assert raised.value.__notes__ == ["left behind: machine a (not allowed); to remove it: ./inv delete a --yes"]
    assert entries(ledger) == ["a"]


def test_time_out_of_a_removal_keeps_the_entry(fake: FakeCloud, ledger: Ledger) -> None:
    fake.boot(SPEC)
    ledger.ask(fake.name, Kind.MACHINE, "a", {})
    fake.fault("check", error=TimedOutError("slow"))
    with pytest.raises(TimedOutError):
        remove(fake, ledger, Kind.MACHINE, "a")
    assert entries(ledger) == ["a"]


def test_removing_what_is_gone_is_fine(fake: FakeCloud, ledger: Ledger) -> None:
    ledger.ask(fake.name, Kind.MACHINE, "a", names.client_labels())
    remove(fake, ledger, Kind.MACHINE, "a")
    assert entries(ledger) == []


def test_stopped_and_absent_machines_do_not_run(fake: FakeCloud) -> None:
    fake.boot(SPEC)
    stop_machine(fake, "a")
    assert not is_running(fake, "a")
    assert not is_running(fake, "b")
