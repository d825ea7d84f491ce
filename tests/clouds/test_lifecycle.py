from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clouds import lifecycle, names
from clouds.driver import BootSpec, Kind, Limits, State, Ticket
from clouds.errors import CapacityError, CloudError, ConflictError, DeniedError, InvalidError, TimedOutError
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
    assert raised.value.__notes__ == ["left behind: machine 'a' (not allowed); to remove it: ./inv delete a --yes"]
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


# A cloud whose lists lag


class Clock:
    """A clock that only advances while sleeping."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def late(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> tuple[FakeCloud, Clock]:
    """Give a cloud in which the first three look-ups of something new do not find it, which may last for a minute."""
    clock = Clock()
    monkeypatch.setattr(lifecycle, "until", partial(until, clock=clock, sleep=clock.sleep))
    fake.limits, fake.world.unseen = Limits(unseen_s=60), 3
    return fake, clock


Late = tuple[FakeCloud, Clock]


def test_created_machine_is_found_by_whoever_looks_it_up_next(late: Late, ledger: Ledger) -> None:
    with Undo() as undo:
        create_machine(late[0], ledger, undo, SPEC)
        undo.release()
    assert is_running(late[0], "a")


def test_machine_that_is_not_seen_yet_is_removed_when_the_answer_to_its_creation_was_lost(late: Late, ledger: Ledger) -> None:
    late[0].fault("boot", when="after", error=CloudError("the answer was lost"))
    with pytest.raises(CloudError, match="lost"), Undo() as undo:
        create_machine(late[0], ledger, undo, SPEC)
    assert (late[0].world.inventory(), entries(ledger)) == ([], [])


def test_image_that_is_not_seen_yet_is_removed_when_the_answer_to_its_creation_was_lost(late: Late, ledger: Ledger) -> None:
    late[0].world.unseen = 0
    make_stopped(late[0])
    late[0].world.unseen = 3
    late[0].fault("snapshot", when="after", error=TimedOutError("too slow"))
    with pytest.raises(TimedOutError), Undo() as undo:
        create_image(late[0], ledger, undo, "a", "image-1", IMAGE_LABELS)
    assert late[0].world.inventory() == ["machine a stopped"]


@pytest.mark.parametrize(
    ("error", "waited_s"), [(CapacityError("full"), 0), (InvalidError("wrong"), 0), (CloudError("the answer was lost"), 60)]
)
def test_only_what_may_have_been_created_is_waited_for(late: Late, ledger: Ledger, error: CloudError, waited_s: float) -> None:
    late[0].fault("boot", error=error)
    with pytest.raises(CloudError), Undo() as undo:
        create_machine(late[0], ledger, undo, SPEC)
    assert waited_s <= late[1].now_s <= waited_s + POLL_S
    assert entries(ledger) == []


def test_machine_that_is_never_listed_is_told_and_its_removal_tried(late: Late, ledger: Ledger) -> None:
    late[0].world.unseen = 10_000
    with pytest.raises(TimedOutError, match="machine 'a' was created, but the cloud did not list it within 60 s"), Undo() as undo:
        create_machine(late[0], ledger, undo, SPEC)
    assert "delete a" in late[0].calls


@pytest.mark.parametrize(
    ("limits", "asked_s", "waited_s"),
    [
        (Limits(), None, 60),
        (Limits(), 20, 20),
        (Limits(operations_s={"stop": 300}), None, 300),
        (Limits(operations_s={"stop": 300}), 20, 300),
        (Limits(operations_s={"boot": 300}), None, 60),
    ],
)
def test_operation_is_given_the_time_that_its_cloud_says(
    late: Late, limits: Limits, asked_s: float | None, waited_s: float
) -> None:
    cloud, clock = late
    cloud.limits, cloud.check = limits, lambda _ticket: False  # type: ignore[method-assign]
    with pytest.raises(TimedOutError):
        settle(cloud, Ticket("stop", Kind.MACHINE, "a"), timeout_s=asked_s)
    assert waited_s <= clock.now_s <= waited_s + POLL_S
