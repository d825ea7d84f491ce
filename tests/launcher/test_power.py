"""Suspend and resume; tests/launcher/test_machines.py has stop and start."""

import time
from pathlib import Path

import pytest

from clouds.driver import PIECE_BYTES, State
from clouds.errors import CapacityError, CloudError, NotFoundError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from launcher import gc
from launcher.access import tunnel
from launcher.access.identity import known_hosts
from launcher.access.notebook import check_login
from launcher.machines import GRACE_S, find_machine
from launcher.power import start, stop, suspend
from tests.fake_cloud import FakeCloud
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud
from tests.launcher.given import launch_one

STOP_TIMER = "flock /run/bakehouse-expiry sh -c systemctl stop bakehouse-expiry.timer 2>/dev/null || true"


@pytest.fixture
def one(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> RemoteCloud:
    """Launch a machine `one` with a notebook on a remote cloud."""
    launch_one(remote, "one")
    return remote


def sudo_calls(far_ssh: Path) -> list[str]:
    """Return the commands that were run as root on a machine, in order."""
    calls = far_ssh / "sudo.calls"
    return calls.read_text().splitlines() if calls.exists() else []


def test_suspended_machine_is_off_and_shown_so(one: RemoteCloud) -> None:
    suspend(one, "one")
    view = find_machine(one, "one")
    assert (view.state, view.url, view.left_s) == ("suspended", None, None)


def test_suspending_ends_the_tunnel_and_takes_the_end_of_the_guest_back(one: RemoteCloud, far_ssh: Path) -> None:
    suspend(one, "one")
    assert sudo_calls(far_ssh) == [STOP_TIMER]
    with pytest.raises(CloudError, match="no tunnel"):
        tunnel.endpoint(one, "one", 8888)


def test_suspending_a_suspended_machine_succeeds(one: RemoteCloud) -> None:
    suspend(one, "one")
    suspend(one, "one")
    assert one.calls.count("suspend one") == 1


def test_stopped_or_missing_machine_cannot_be_suspended(one: RemoteCloud) -> None:
    stop(one, "one")
    with pytest.raises(CloudError, match="machine 'one' is stopped"):
        suspend(one, "one")
    with pytest.raises(NotFoundError):
        suspend(one, "two")


def test_cloud_without_suspend_has_a_hint(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    with pytest.raises(UsageError, match="--suspend: not supported by cloud 'fake'") as refused:
        suspend(fake, "one")
    assert refused.value.next_step.endswith("./inv stop one")
    assert fake.world.machines["one"].state is State.RUNNING


def test_machine_that_cannot_be_suspended_keeps_its_end(one: RemoteCloud, far_ssh: Path) -> None:
    expires = one.world.machines["one"].labels["expires"]
    one.fault("suspend", error=CapacityError("not now"))
    with pytest.raises(CapacityError):
        suspend(one, "one")
    assert f"--on-calendar=@{expires} " in sudo_calls(far_ssh)[-1]


def test_machine_resumes_with_its_notebook_and_password(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> None:
    launched = launch_one(remote, "one")
    suspend(remote, "one")
    console = remote.world.machines["one"].console
    view = start(remote, "one")
    assert view.url == launched.url
    assert view.url and launched.password
    check_login(view.url, launched.password)
    assert remote.world.machines["one"].console == console  # no boot, and no host key told


def test_machine_without_a_tunnel_resumes_in_the_same_way(keeping: MemoryCloud, jupyter: str, far_ssh: Path) -> None:
    launched = launch_one(keeping, "one")
    suspend(keeping, "one")
    view = start(keeping, "one", lifetime_h=0)
    assert view.url == launched.url
    assert view.url and launched.password
    check_login(view.url, launched.password)
    assert sudo_calls(far_ssh) == [STOP_TIMER, STOP_TIMER]


def test_resumed_machine_has_a_new_lifetime_everywhere(one: RemoteCloud, far_ssh: Path) -> None:
    suspend(one, "one")
    start(one, "one", lifetime_h=2)
    machine = one.world.machines["one"]
    expires = int(machine.labels["expires"])
    assert abs(expires - time.time() - 2 * 3600) < 60
    assert 2 * 3600 < machine.spec.deadline_s < 3 * 3600
    when = f"--on-calendar=@{expires} --timer-property=AccuracySec=1s"
    assert sudo_calls(far_ssh)[-1] == f"{STOP_TIMER}; systemd-run --quiet --unit=bakehouse-expiry {when} systemctl poweroff"


def test_running_machine_is_resumed_since_its_cloud_may_have_paused_it(one: RemoteCloud) -> None:
    one.calls.clear()
    assert start(one, "one").state == "running"
    assert "start one" in one.calls


def test_machine_without_a_limit_resumes_without_one(one: RemoteCloud, far_ssh: Path) -> None:
    suspend(one, "one")
    start(one, "one", lifetime_h=0)
    assert sudo_calls(far_ssh)[-1] == STOP_TIMER


def test_failure_to_set_the_auto_stop_timer_is_reported(one: RemoteCloud, far_ssh: Path) -> None:
    (far_ssh / "sudo").write_text("#!/bin/sh\necho 'no bus' >&2; exit 1\n")
    with pytest.raises(CloudError, match="could not set the auto-stop timer: no bus"):
        suspend(one, "one")
    assert one.world.machines["one"].state is State.RUNNING


def test_machine_whose_host_key_is_not_known_here_is_not_set_going(one: RemoteCloud) -> None:
    suspend(one, "one")
    known_hosts(home(), "faraway", "one").unlink()
    with pytest.raises(CloudError, match="its host key is not pinned on this computer"):
        start(one, "one")
    assert one.world.machines["one"].state is State.SUSPENDED


def test_suspended_machine_holds_its_users_work_and_is_never_garbage(one: RemoteCloud, ledger: Ledger) -> None:
    suspend(one, "one")
    assert gc.find(one, ledger, now=4_000_000_000.0) == []


@pytest.mark.parametrize("is_suspended", [False, True])
def test_panic_of_an_older_boot_is_ignored_however_old_it_is(
    one: RemoteCloud, monkeypatch: pytest.MonkeyPatch, is_suspended: bool
) -> None:
    (suspend if is_suspended else stop)(one, "one")
    monkeypatch.setattr(one, "piece_bytes", PIECE_BYTES)
    one.world.machines["one"].console += b"\n" * (2 * PIECE_BYTES) + b"[    9.1] Kernel panic - not syncing: old\n"
    assert start(one, "one").state == "running"


GRACE_H = GRACE_S / 3600


def test_cloud_that_takes_no_new_deadline_for_a_suspended_machine_is_not_promised_past(one: RemoteCloud, far_ssh: Path) -> None:
    suspend(one, "one")
    one.resume_limit_s = (8 + GRACE_H) * 3600
    view = start(one, "one")  # a day, unless told otherwise
    assert view.left_s and abs(view.left_s - 8 * 3600) < 60
    assert f"--on-calendar=@{view.expires} " in sudo_calls(far_ssh)[-1]


@pytest.mark.parametrize("lifetime_h", [9.0, 0.0])
def test_lifetime_that_the_cloud_would_cut_short_is_refused_before_anything_is_changed(one: RemoteCloud, lifetime_h: float) -> None:
    suspend(one, "one")
    one.resume_limit_s = (8 + GRACE_H) * 3600
    before = dict(one.world.machines["one"].labels)
    with pytest.raises(UsageError, match="faraway stops the suspended machine 'one' 8 h after it resumes") as refused:
        start(one, "one", lifetime_h=lifetime_h)
    assert f"./inv start one --lifetime-h {lifetime_h:g}" in refused.value.next_step
    assert one.world.machines["one"].labels == before
    assert find_machine(one, "one").state == "suspended"


def test_shorter_lifetime_than_the_cloud_allows_holds(one: RemoteCloud) -> None:
    suspend(one, "one")
    one.resume_limit_s = (8 + GRACE_H) * 3600
    view = start(one, "one", lifetime_h=2)
    assert view.left_s and abs(view.left_s - 2 * 3600) < 60


def test_resumed_machine_knows_its_new_end_also_after_it_restarts_itself(one: RemoteCloud) -> None:
    suspend(one, "one")
    view = start(one, "one", lifetime_h=2)
    assert one.world.machines["one"].facts["EXPIRES"] == str(view.expires)
