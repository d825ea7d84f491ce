import os
import time
from pathlib import Path

import pytest

from clouds import names
from clouds.driver import BootSpec, Kind, Limits, State
from clouds.errors import DeniedError, LeftoverError
from clouds.ledger import Ledger
from launcher import gc
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

NOW = 1_800_000_000.0
HOUR_S = 3600
EXPIRED = str(int(NOW) - HOUR_S)
EXPIRED_LONG_AGO = str(int(NOW) - 25 * HOUR_S)
NOT_YET = str(int(NOW) + HOUR_S)
DEAD = {"client-start": "1"}
STRANGER = {"client-computer": "h" + 24 * "0"}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite3")


def machine(fake: FakeCloud, name: str, role: str, labels: dict[str, str]) -> None:
    whole = names.client_labels() | {"role": role} | labels
    fake.boot(
        BootSpec(name=name, token=name, source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels=whole, deadline_s=0),
    )


def image(fake: FakeCloud, name: str, labels: dict[str, str], state: State = State.READY) -> None:
    machine(fake, "source", "builder", {})
    fake.stop("source")
    fake.snapshot("source", name, names.client_labels() | labels)
    fake.world.images[name].state = state
    fake.delete(Kind.MACHINE, "source")


def found(fake: FakeCloud, ledger: Ledger) -> list[str]:
    return [str(one) for one in gc.find(fake, ledger, now=NOW)]


ENDED = f"the command that created it (process {os.getpid()}) has exited"


@pytest.mark.parametrize("role", ["builder", "test", "machine-in-progress"])
def test_unfinished_machine_of_a_dead_client_is_garbage(fake: FakeCloud, ledger: Ledger, role: str) -> None:
    machine(fake, "a", role, DEAD)
    assert found(fake, ledger) == [f"delete machine 'a': {ENDED}"]


@pytest.mark.parametrize("role", ["builder", "test", "machine-in-progress"])
@pytest.mark.parametrize("expires", [NOT_YET, EXPIRED, EXPIRED_LONG_AGO])
def test_unfinished_machine_of_a_live_client_is_never_garbage(fake: FakeCloud, ledger: Ledger, role: str, expires: str) -> None:
    machine(fake, "a", role, {"expires": expires})
    assert found(fake, ledger) == []


def test_builder_of_a_client_on_another_host_is_garbage_only_a_day_after_it_has_expired(fake: FakeCloud, ledger: Ledger) -> None:
    for name, expires in {"a": NOT_YET, "b": EXPIRED, "c": EXPIRED_LONG_AGO}.items():
        machine(fake, name, "builder", {**STRANGER, "expires": expires})
    assert found(fake, ledger) == ["delete machine 'c': expired more than a day ago"]


@pytest.mark.parametrize("labels", [DEAD, STRANGER])
def test_kept_builder_is_garbage_once_it_has_expired(fake: FakeCloud, ledger: Ledger, labels: dict[str, str]) -> None:
    for name, expires in {"a": NOT_YET, "b": EXPIRED}.items():
        machine(fake, name, "builder", {**labels, "keep": "1", "expires": expires})
    assert found(fake, ledger) == ["delete machine 'b': kept for inspection, but expired"]


def test_builder_that_a_live_client_may_yet_keep_is_no_garbage(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "a", "builder", {"keep": "1", "expires": EXPIRED})
    assert found(fake, ledger) == []


def test_half_image_of_a_dead_client_is_garbage(fake: FakeCloud, ledger: Ledger) -> None:
    image(fake, "a-1.0-1", {"role": "image-in-progress", **DEAD}, State.PENDING)
    assert found(fake, ledger) == [f"delete image 'a-1.0-1': {ENDED}"]


def test_image_whose_test_was_never_finished_is_garbage(fake: FakeCloud, ledger: Ledger) -> None:
    image(fake, "a-1.0-1", {"role": "image-in-progress", "state": "candidate", **DEAD})
    assert found(fake, ledger) == [f"delete image 'a-1.0-1': {ENDED}"]


def test_image_that_a_live_client_makes_is_no_garbage(fake: FakeCloud, ledger: Ledger) -> None:
    image(fake, "a-1.0-1", {"role": "image-in-progress", "expires": EXPIRED_LONG_AGO}, State.PENDING)
    assert found(fake, ledger) == []


@pytest.mark.parametrize("state", ["stable", "candidate"])
def test_finished_image_is_never_garbage(fake: FakeCloud, ledger: Ledger, state: str) -> None:
    image(fake, "a-1.0-1", {"role": "image", "state": state, "expires": EXPIRED_LONG_AGO, **DEAD})
    assert found(fake, ledger) == []


def test_running_machine_past_its_lifetime_is_to_be_stopped(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "mine", "machine", {"expires": EXPIRED, **DEAD})
    assert found(fake, ledger) == ["stop machine 'mine': running past its lifetime"]


@pytest.mark.parametrize("expires", [NOT_YET, "0"])
def test_machine_within_its_lifetime_or_without_one_is_no_garbage(fake: FakeCloud, ledger: Ledger, expires: str) -> None:
    machine(fake, "mine", "machine", {"expires": expires, **DEAD})
    assert found(fake, ledger) == []


def test_stopped_machine_holds_its_users_work_and_is_never_garbage(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "mine", "machine", {"expires": EXPIRED_LONG_AGO, **DEAD})
    fake.stop("mine")
    assert found(fake, ledger) == []


@pytest.mark.parametrize("labels", [{"owner": "somebody-else"}, {"project": "other"}])
def test_resource_of_another_owner_is_never_garbage(fake: FakeCloud, ledger: Ledger, labels: dict[str, str]) -> None:
    machine(fake, "a", "builder", {"expires": EXPIRED_LONG_AGO, **DEAD, **labels})
    ledger.ask(fake.name, Kind.MACHINE, "a", names.client_labels() | DEAD)
    assert found(fake, ledger) == []


def test_machine_without_labels_is_known_from_the_ledger(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "a", "builder", {})
    fake.world.machines["a"].labels.clear()
    ledger.ask(fake.name, Kind.MACHINE, "a", names.client_labels() | {"role": "builder"} | DEAD)
    assert found(fake, ledger) == [f"delete machine 'a': {ENDED}"]


def test_machines_are_removed_before_the_images_that_they_use(fake: FakeCloud, ledger: Ledger) -> None:
    image(fake, "a-1.0-1", {"role": "image-in-progress", **DEAD})
    machine(fake, "test-a", "test", DEAD)
    fake.world.machines["test-a"].spec = BootSpec(
        name="test-a", token="t", source="a-1.0-1", cpus=1, memory_mb=1, disk_gb=1, labels={}, deadline_s=0
    )
    garbage = gc.find(fake, ledger, now=NOW)
    gc.collect(fake, ledger, garbage)
    assert [one.resource.kind for one in garbage] == [Kind.MACHINE, Kind.IMAGE]
    assert fake.world.inventory() == []


def test_collecting_stops_a_users_machine_and_deletes_the_rest(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "mine", "machine", {"expires": EXPIRED, **DEAD})
    machine(fake, "bake-a", "builder", DEAD)
    gc.collect(fake, ledger, gc.find(fake, ledger, now=NOW))
    assert fake.world.inventory() == ["machine mine stopped"]


def test_collecting_continues_after_a_failure_and_reports_leftovers(fake: FakeCloud, ledger: Ledger) -> None:
    for name in "abc":
        machine(fake, name, "builder", DEAD)
    fake.fault("delete", error=DeniedError("not allowed"), nth=2)
    with pytest.raises(LeftoverError) as raised:
        gc.collect(fake, ledger, gc.find(fake, ledger, now=NOW))
    assert raised.value.left == ("machine 'b' (not allowed)",)
    assert fake.world.inventory() == ["machine b running"]


def test_collecting_twice_is_fine(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "a", "builder", DEAD)
    garbage = gc.find(fake, ledger, now=NOW)
    gc.collect(fake, ledger, garbage)
    gc.collect(fake, ledger, garbage)
    assert fake.world.inventory() == []


def test_machine_whose_name_was_taken_anew_since_it_was_judged_stays(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "work", "machine-in-progress", DEAD)
    garbage = gc.find(fake, ledger, now=NOW)
    fake.delete(Kind.MACHINE, "work")
    machine(fake, "work", "machine", {})
    assert gc.collect(fake, ledger, garbage) == garbage
    assert fake.world.inventory() == ["machine work running"]


def test_image_whose_version_was_taken_anew_since_it_was_judged_stays(fake: FakeCloud, ledger: Ledger) -> None:
    image(fake, "a-1.0-1", {"role": "image-in-progress", "bake": "bake-1", **DEAD})
    garbage = gc.find(fake, ledger, now=NOW)
    fake.delete(Kind.IMAGE, "a-1.0-1")
    image(fake, "a-1.0-1", {"role": "image-in-progress", "bake": "bake-2"})
    assert gc.collect(fake, ledger, garbage) == garbage
    assert fake.world.inventory() == ["image a-1.0-1 ready"]


def test_machine_that_was_given_a_new_lifetime_since_it_was_judged_is_not_stopped(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "mine", "machine", {"expires": EXPIRED})
    garbage = gc.find(fake, ledger, now=NOW)
    fake.label(Kind.MACHINE, "mine", {"expires": NOT_YET})
    assert gc.collect(fake, ledger, garbage) == garbage
    assert fake.world.inventory() == ["machine mine running"]


def test_resource_deleted_since_it_was_judged_is_not_deleted_again(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "mine", "machine", {"expires": EXPIRED})
    machine(fake, "work", "builder", DEAD)
    garbage = gc.find(fake, ledger, now=NOW)
    fake.world.machines.clear()
    ledger.ask(fake.name, Kind.MACHINE, "work", names.client_labels())  # somebody is about to make another
    assert gc.collect(fake, ledger, garbage) == []
    assert [entry.name for entry in ledger.entries(fake.name)] == ["work"]


def test_machine_without_labels_goes_as_the_ledger_knows_it(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "a", "builder", {})
    fake.world.machines["a"].labels.clear()
    ledger.ask(fake.name, Kind.MACHINE, "a", names.client_labels() | {"role": "builder"} | DEAD)
    assert gc.collect(fake, ledger, gc.find(fake, ledger, now=NOW)) == []
    assert fake.world.inventory() == []


def test_collected_things_are_forgotten_by_the_ledger(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "a", "builder", DEAD)
    ledger.ask(fake.name, Kind.MACHINE, "a", DEAD)
    gc.collect(fake, ledger, gc.find(fake, ledger, now=NOW))
    assert ledger.entries(fake.name) == []


def test_entry_of_a_missing_resource_is_removed_once_its_client_is_dead(fake: FakeCloud, ledger: Ledger) -> None:
    machine(fake, "there", "machine", DEAD)
    for name, labels in {"there": DEAD, "gone": DEAD, "coming": {}}.items():
        ledger.ask(fake.name, Kind.MACHINE, name, names.client_labels() | labels)
    gc.forget_absent(fake, ledger, now=time.time())
    assert [entry.name for entry in ledger.entries(fake.name)] == ["there", "coming"]


def test_entry_of_a_resource_that_may_not_be_listed_yet_is_kept(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    fake.limits = Limits(unseen_s=60)
    ledger.ask(fake.name, Kind.MACHINE, "late", names.client_labels() | DEAD)
    asked_at = ledger.entries(fake.name)[0].asked_at
    gc.forget_absent(fake, ledger, now=asked_at + 59)
    assert [entry.name for entry in ledger.entries(fake.name)] == ["late"]
    gc.forget_absent(fake, ledger, now=asked_at + 61)
    assert ledger.entries(fake.name) == []


def test_finding_changes_nothing(fake: FakeCloud, world: World, ledger: Ledger) -> None:
    machine(fake, "a", "builder", DEAD)
    ledger.ask(fake.name, Kind.MACHINE, "gone", names.client_labels() | DEAD)
    before = world.inventory(), ledger.entries(fake.name)
    gc.find(fake, ledger, now=NOW)
    assert (world.inventory(), ledger.entries(fake.name)) == before


def test_logs_of_old_bakes_are_pruned(tmp_path: Path) -> None:
    now = time.time()
    for name, age_days in {"bake-new": 29, "bake-old": 31}.items():
        folder = tmp_path / "bakes" / name
        folder.mkdir(parents=True)
        (folder / "console.log").write_text("")
        os.utime(folder, (now, now - age_days * 24 * HOUR_S))
    assert gc.prune_logs(tmp_path, now=now) == ["bake-old"]
    assert [path.name for path in (tmp_path / "bakes").iterdir()] == ["bake-new"]


def test_no_bakes_no_logs_to_prune(tmp_path: Path) -> None:
    assert gc.prune_logs(tmp_path, now=NOW) == []
