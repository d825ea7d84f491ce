import time

import pytest

from clouds.driver import State
from clouds.errors import CapacityError, CloudError, KernelPanicError, NotFoundError, TimedOutError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from launcher.access.identity import known_hosts
from launcher.access.notebook import check_login
from launcher.machines import delete, find_machine, machines, notebook_url
from launcher.power import start, stop
from tests.fake_cloud import FakeCloud
from tests.fake_guest import panics_at
from tests.launcher.given import launch_one


def test_no_machines_is_an_empty_list(fake: FakeCloud) -> None:
    assert machines(fake) == []


def test_machine_is_listed_with_where_it_answers_and_the_time_it_has_left(fake: FakeCloud, jupyter: str) -> None:
    launched = launch_one(fake, "one")
    (view,) = machines(fake)
    assert (view.name, view.state, view.cloud, view.url, view.image) == ("one", "running", "fake", launched.url, jupyter)
    assert view.left_s is not None and 23.9 * 3600 < view.left_s <= 24 * 3600


def test_json_of_a_machine_has_the_promised_fields_and_no_secret(fake: FakeCloud, jupyter: str) -> None:
    launched = launch_one(fake)
    (view,) = machines(fake)
    assert list(view.to_json()) == ["name", "state", "cloud", "url", "labels"]
    assert "argon2" not in str(view.to_json())
    assert str(launched.password) not in str(view.to_json())


def test_builder_is_listed_too_since_it_is_paid_for(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.world.machines["one"].labels["role"] = "builder"
    assert [view.labels["role"] for view in machines(fake)] == ["builder"]


def test_machine_that_vanishes_does_not_spoil_the_list(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake)
    fake.fault("address", error=NotFoundError("gone"))
    assert [view.url for view in machines(fake)] == [None]


def test_machine_without_a_limit_has_no_time_left_to_tell(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.world.machines["one"].labels["expires"] = "0"
    assert [view.left_s for view in machines(fake)] == [None]


def test_unknown_machine_asks_for_the_nearest(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "analysis")
    with pytest.raises(NotFoundError) as raised:
        find_machine(fake, "analisis")
    assert raised.value.next_step == "Did you mean analysis?"


def test_stopped_machine_has_no_url_and_no_time_left(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    (view,) = machines(fake)
    assert (view.state, view.url, view.left_s) == ("stopped", None, None)


def test_guest_that_does_not_shut_down_is_reported_with_a_hint(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.fault("check", error=TimedOutError("stop machine 'one': timed out after 60 s"))
    with pytest.raises(TimedOutError) as raised:
        stop(fake, "one")
    assert "stop it again" in raised.value.next_step
    assert "./inv delete one" in raised.value.next_step


@pytest.mark.parametrize("verb", [stop, start])
def test_verbs_refuse_a_machine_that_is_not_there(fake: FakeCloud, verb: type[object]) -> None:
    with pytest.raises(NotFoundError):
        verb(fake, "one")


def test_started_machine_answers_again_with_the_password_it_had(fake: FakeCloud, jupyter: str) -> None:
    launched = launch_one(fake, "one")
    stop(fake, "one")
    view = start(fake, "one")
    assert view.url and launched.password
    check_login(view.url, launched.password)


def test_started_machine_has_a_new_lifetime_everywhere(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    view = start(fake, "one", lifetime_h=2)
    machine = fake.world.machines["one"]
    assert view.left_s is not None and 1.9 * 3600 < view.left_s <= 2 * 3600
    assert machine.facts["EXPIRES"] == machine.labels["expires"]
    assert abs(int(machine.facts["EXPIRES"]) - time.time() - 2 * 3600) < 60
    assert 2 * 3600 < machine.spec.deadline_s < 3 * 3600


def test_start_draws_a_new_nonce_so_that_old_markers_are_dead(fake: FakeCloud, jupyter: str) -> None:
    launched = launch_one(fake, "one")
    stop(fake, "one")
    start(fake, "one")
    assert fake.world.machines["one"].facts["NONCE"] != launched.nonce


def test_start_pins_the_host_key_again(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    known_hosts(home(), "fake", "one").unlink()
    start(fake, "one")
    assert known_hosts(home(), "fake", "one").exists()


def test_starting_a_running_machine_changes_nothing(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    before = dict(fake.world.machines["one"].labels)
    assert start(fake, "one").state == "running"
    assert fake.world.machines["one"].labels == before


def test_new_lifetime_of_a_running_machine_is_refused_with_a_hint(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    before = dict(fake.world.machines["one"].labels)
    with pytest.raises(UsageError, match="machine 'one' is already running") as refused:
        start(fake, "one", lifetime_h=1)
    assert refused.value.next_step.endswith("./inv stop one, ./inv start one --lifetime-h 1")
    assert fake.world.machines["one"].labels == before


def test_machine_that_is_still_shutting_down_is_off_before_it_is_started(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.world.machines["one"].state = State.STOPPING
    fake.calls.clear()
    assert start(fake, "one").state == "running"
    verbs = [call for call in fake.calls if call in ("stop one", "start one")]
    assert verbs == ["stop one", "start one"]


def test_start_with_no_time_is_refused_and_changes_nothing(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    before = dict(fake.world.machines["one"].labels)
    with pytest.raises(UsageError):
        start(fake, "one", lifetime_h=-1)
    assert fake.world.machines["one"].labels == before


def test_panic_of_an_earlier_boot_does_not_keep_a_machine_from_starting(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    fake.world.machines["one"].console += b"[    9.9] Kernel panic - not syncing: at shutdown\r\n"
    assert start(fake, "one").state == "running"


def test_machine_that_panics_when_it_starts_is_kept_with_its_disk(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    stop(fake, "one")
    fake.guest("one", panics_at())
    with pytest.raises(KernelPanicError):
        start(fake, "one")
    assert "one" in fake.world.machines


def test_machine_that_ends_at_once_is_started_once_more(fake: FakeCloud, jupyter: str) -> None:
    def die() -> None:
        machine = fake.world.machines["one"]
        machine.console, machine.state = machine.console[:seen], State.STOPPED

    told: list[str] = []
    launch_one(fake, "one")
    stop(fake, "one")
    seen = len(fake.world.machines["one"].console)
    fake.fault("start", when="after", error=die)
    assert start(fake, "one", tell=told.append).url
    assert "starting it once more" in told[0]


def test_machine_that_panics_at_once_and_reboots_by_itself_starts(fake: FakeCloud, jupyter: str) -> None:
    def panic() -> None:
        machine = fake.world.machines["one"]
        whole.append(machine.console[seen:])
        machine.console = machine.console[:seen] + b"[    0.1] PANIC: double fault, error_code: 0x0\r\n"

    def come_up() -> None:
        fake.world.machines["one"].console += whole[0]

    launch_one(fake, "one")
    stop(fake, "one")
    whole: list[bytes] = []
    seen = len(fake.world.machines["one"].console)
    fake.fault("start", when="after", error=panic, nth=1)
    fake.fault("start", when="after", error=come_up, nth=2)
    assert start(fake, "one").url


def test_deleted_machine_is_removed_with_its_ssh_config_and_keys(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch_one(fake, "one")
    launch_one(fake, "two")
    delete(fake, ledger, "one")
    assert [view.name for view in machines(fake)] == ["two"]
    assert [entry.name for entry in ledger.entries("fake")] == ["two"]
    config = (home() / "ssh" / "config").read_text()
    assert ("Host one\n" in config, "Host two\n" in config) == (False, True)
    assert not known_hosts(home(), "fake", "one").exists()


def test_machine_that_cannot_be_deleted_stays_in_the_ledger(fake: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    launch_one(fake, "one")
    fake.fault("delete", error=CapacityError("not now"))
    with pytest.raises(CapacityError):
        delete(fake, ledger, "one")
    assert [entry.name for entry in ledger.entries("fake")] == ["one"]


def test_url_is_shown_only_for_a_running_notebook(fake: FakeCloud, jupyter: str, minimal: str) -> None:
    launched = launch_one(fake, "one")
    assert notebook_url(fake, "one") == launched.url
    launch_one(fake, "plain", recipe="minimal")
    with pytest.raises(CloudError, match="no notebook"):
        notebook_url(fake, "plain")
    stop(fake, "one")
    with pytest.raises(CloudError, match="stopped") as raised:
        notebook_url(fake, "one")
    assert "./inv start one" in raised.value.next_step
