"""A part of a cloud cannot be reached: resources of the rest are listed and removed, and nothing is concluded about that part."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import clouds
from clouds import names
from clouds.driver import BootSpec, Kind
from clouds.errors import UnreachableError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from launcher import gc, machines
from launcher.access import tunnel
from launcher.access.identity import known_hosts, pin, sync
from launcher.launch import LaunchOptions, launch
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.launcher.given import launch_one

HERE, GONE = "near-1", "near-2"
NOW = 1_800_000_000.0
DEAD = {"client-start": "1"}


def boot(fake: FakeCloud, name: str, zone: str, **labels: str) -> BootSpec:
    """Boot a machine in a zone, by default the builder of a dead client."""
    whole = names.client_labels() | {"role": "builder", "machine": name} | DEAD | labels
    spec = BootSpec(
        name=name, token=name, source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels=whole, deadline_s=0, zone=zone, ports=(22,)
    )
    fake.boot(spec)
    return spec


@pytest.fixture
def cut(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Give a cloud with a machine in each of two zones, one of which cannot be reached."""
    boot(fake, "seen", HERE)
    boot(fake, "hidden", GONE)
    fake.unreachable.add(GONE)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    return fake


def test_machines_shows_those_that_were_found_then_the_error(cut: FakeCloud) -> None:
    code, stdout, stderr = run("machines")
    assert code == 1
    assert "seen" in stdout
    assert "hidden" not in stdout
    assert stderr == "error: machines of fake: could not reach near-2\nnext: Try again in a few minutes.\n"


def test_machines_for_programs_are_a_list_and_an_error(cut: FakeCloud) -> None:
    code, stdout, stderr = run("machines", json=True)
    assert (code, [found["name"] for found in json.loads(stdout)]) == (1, ["seen"])
    assert "near-2" in stderr


def test_machines_of_all_clouds_tell_which_one_is_incomplete(cut: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clouds, "configured", lambda: ["fake"])
    code, stdout, stderr = run("machines", cloud="all")
    assert (code, "seen" in stdout) == (1, True)
    assert stderr.startswith("fake: machines of fake: could not reach near-2")


def test_incomplete_list_is_not_reported_as_no_machines(cut: FakeCloud) -> None:
    del cut.world.machines["seen"]
    code, _, stderr = run("machines")
    assert code == 1
    assert "no machines" not in stderr


def test_gc_removes_reachable_resources_and_reports_the_unreachable_zone(cut: FakeCloud) -> None:
    code, _, stderr = run("gc", yes=True)
    assert code == 1
    assert list(cut.world.machines) == ["hidden"]
    assert "cleaned up 1 resource\n" in stderr
    assert (
        "error: could not reach near-2 on fake; nothing was cleaned up there\nnext: Try again in a few minutes: ./inv gc\n"
        in stderr
    )


def test_gc_does_not_report_nothing_to_clean_up_if_a_zone_is_unreachable(cut: FakeCloud) -> None:
    del cut.world.machines["seen"]
    code, _, stderr = run("gc", yes=True)
    assert code == 1
    assert "nothing to clean up" not in stderr


def test_gc_keeps_the_entry_of_a_resource_that_may_be_unreachable(cut: FakeCloud, ledger: Ledger) -> None:
    ledger.ask(cut.name, Kind.MACHINE, "hidden", names.client_labels() | DEAD)
    gc.forget_absent(cut, ledger, now=time.time())
    assert [entry.name for entry in ledger.entries(cut.name)] == ["hidden"]


@pytest.mark.parametrize("verb", ["delete", "stop", "start"])
def test_machine_that_was_not_seen_is_not_called_absent(cut: FakeCloud, verb: str) -> None:
    code, _, stderr = run(verb, name="hidden", **({"yes": True} if verb == "delete" else {}))
    assert code == 1
    assert "could not reach near-2" in stderr
    assert "there is none" not in stderr


def test_machine_that_was_seen_is_deleted(cut: FakeCloud) -> None:
    assert run("delete", name="seen", yes=True)[0] == 0
    assert list(cut.world.machines) == ["hidden"]


def test_launch_of_a_name_that_may_be_taken_is_refused_and_one_of_a_new_name_is_not(
    cut: FakeCloud, ledger: Ledger, jupyter: str
) -> None:
    with pytest.raises(UnreachableError) as refused:
        launch(cut, ledger, LaunchOptions(name="hidden"))
    assert refused.value.next_step.startswith("Leave --name out")
    assert launch(cut, ledger, LaunchOptions()).name in cut.world.machines


def test_undo_keeps_an_unreachable_resource_and_reports_it(cut: FakeCloud, ledger: Ledger) -> None:
    spec = boot(cut, "mine", HERE)
    with pytest.raises(ZeroDivisionError) as raised, Undo() as undo:
        create_machine(cut, ledger, undo, spec)
        cut.unreachable.add(HERE)
        raise ZeroDivisionError
    assert any("machine mine" in note and note.endswith("./inv gc") for note in raised.value.__notes__)
    assert [entry.name for entry in ledger.entries(cut.name)] == ["mine"]


def test_ssh_still_knows_the_machines_that_are_out_of_reach(cut: FakeCloud) -> None:
    cut.unreachable.clear()
    for name in ("seen", "hidden"):
        pin(home(), cut.name, name, "ssh-ed25519 AAAA")
    before = sync(home(), cut).read_text()
    cut.unreachable.add(GONE)
    assert sync(home(), cut).read_text() == before
    assert known_hosts(home(), cut.name, "hidden").exists()


def test_tunnel_to_a_machine_out_of_reach_stays(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> None:
    launch_one(remote, "one")
    remote.unreachable.add(HERE)
    tunnel.sweep(remote)
    remote.unreachable.clear()
    assert machines.find_machine(remote, "one").url
