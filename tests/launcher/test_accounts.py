"""Records on this computer are kept by account: a command in one project does not affect another one."""

import json
import os
import shutil
import sqlite3
import subprocess
import threading
import time
from pathlib import Path

import pytest

from clouds import names
from clouds.accounts import account_key
from clouds.driver import BootSpec, Kind
from clouds.errors import CloudError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.waiter import until
from launcher import gc
from launcher.access import identity, tunnel
from launcher.access.identity import check_known, known_hosts, locked, pin, pin_certificate, sync
from launcher.machines import delete
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHcPRm0OgAPXrhuHWLprZvTCMmoJ3CqNDWGWnMCOxvr5"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHcPRm0OgAPXrhuHWLprZvTCMmoJ3CqNDWGWnMCOxvr6"
ENDED = {"client-pid": "4194999"}


def project(tmp_path: Path, account: str) -> FakeCloud:
    cloud = FakeCloud(World(tmp_path / account))
    cloud.account = account
    return cloud


@pytest.fixture
def ours(tmp_path: Path) -> FakeCloud:
    return project(tmp_path, "ours")


@pytest.fixture
def theirs(tmp_path: Path) -> FakeCloud:
    return project(tmp_path, "theirs")


def boot(cloud: FakeCloud, name: str, **labels: str) -> None:
    whole = names.client_labels() | labels
    cloud.boot(
        BootSpec(name=name, token=name, source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels=whole, deadline_s=0, ports=(22,))
    )


def pin_older(name: str, host_key: str = HOST_KEY) -> Path:
    """Pin a key like an older release, which stored keys per cloud."""
    pin(home(), "fake", name, host_key)
    return home() / "ssh/known_hosts/fake" / name


def known(cloud: FakeCloud, name: str) -> str:
    return known_hosts(home(), account_key(cloud), name).read_text()


def test_key_of_an_account_is_fit_for_a_file() -> None:
    cloud = FakeCloud(World(Path("/nonexistent")))
    assert account_key(cloud) == "fake"
    cloud.account = "example.com:lab/1"
    assert account_key(cloud) == "fake.example.com%3Alab%2F1"
    cloud.name = "fake.research"
    assert account_key(cloud) == "fake.example.com%3Alab%2F1"


def test_command_in_one_project_drops_no_key_of_another(ours: FakeCloud, theirs: FakeCloud) -> None:
    boot(ours, "one")
    pin(home(), "fake.ours", "one", HOST_KEY)
    pin_certificate(home(), "fake.ours", "one", "3A:F0")
    sync(home(), ours)
    sync(home(), theirs)
    assert HOST_KEY in known(ours, "one")
    assert identity.certificate(home(), "fake.ours", "one") == "3A:F0"
    assert "Host one\n" in (home() / "ssh/config").read_text()


def test_machines_of_one_name_in_two_projects_are_reached_each_by_its_own_key(ours: FakeCloud, theirs: FakeCloud) -> None:
    for cloud, key in ((ours, HOST_KEY), (theirs, OTHER_KEY)):
        boot(cloud, "one")
        pin(home(), account_key(cloud), "one", key)
    for cloud in (ours, theirs):
        config = sync(home(), cloud)
        shown = subprocess.run(["ssh", "-G", "-F", config, "one"], check=True, capture_output=True, text=True).stdout
        assert f"userknownhostsfile {home()}/ssh/known_hosts/{account_key(cloud)}/one\n" in shown
    assert (home() / "ssh/config").read_text().count("Host one.fake.ours\n") == 1
    assert (home() / "ssh/config").read_text().count("Host one.fake.theirs\n") == 1
    assert "Host one\n" not in (home() / "ssh/config").read_text()


def test_key_that_an_older_release_pinned_is_taken_over_by_the_project_that_has_the_machine(
    ours: FakeCloud, theirs: FakeCloud
) -> None:
    older = pin_older("one")
    boot(ours, "one")
    sync(home(), theirs)
    assert older.exists()
    assert "Host one\n" in sync(home(), ours).read_text()
    check_known(home(), "fake.ours", "one")
    assert HOST_KEY in known(ours, "one")


def test_key_of_an_older_release_never_takes_the_place_of_one_that_the_project_has_pinned(ours: FakeCloud) -> None:
    pin_older("one", OTHER_KEY)
    boot(ours, "one")
    pin(home(), "fake.ours", "one", HOST_KEY)
    sync(home(), ours)
    assert HOST_KEY in known(ours, "one")


def test_key_of_an_older_release_goes_with_its_machine_and_no_other(ours: FakeCloud, ledger: Ledger) -> None:
    older, another = pin_older("one"), pin_older("two", OTHER_KEY)
    boot(ours, "one")
    sync(home(), ours)
    delete(ours, ledger, "one")
    assert (older.exists(), another.exists()) == (False, True)
    with pytest.raises(CloudError, match="its host key is not pinned on this computer"):
        check_known(home(), "fake.ours", "one")


def test_config_of_an_older_release_keeps_entries_that_no_project_has_migrated(ours: FakeCloud) -> None:
    for name in ("one", "two"):
        pin_older(name)
    older = home() / "ssh/config.d/fake"
    older.parent.mkdir()
    older.write_text("Host one\n    HostName 10.0.0.1\nHost two\n    HostName 10.0.0.2\nHost gone\n    HostName 10.0.0.3\n")
    boot(ours, "one")
    sync(home(), ours)
    assert older.read_text() == "Host two\n    HostName 10.0.0.2\n"


def test_lock_is_not_held_during_a_request_and_keys_pinned_meanwhile_are_kept(ours: FakeCloud) -> None:
    """Another command launches a machine between our list of the machines and our writing."""
    pin(home(), "fake.ours", "gone", HOST_KEY)
    boot(ours, "one")
    pin(home(), "fake.ours", "one", HOST_KEY)

    def launch_another() -> None:
        def other() -> None:
            with locked(home() / "ssh"):
                pass
            pin(home(), "fake.ours", "new", OTHER_KEY)
            part = home() / "ssh/config.d/fake.ours"
            part.parent.mkdir(exist_ok=True)
            part.write_text("Host new\n    HostName 10.0.0.9\n")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=20)
        assert not thread.is_alive(), "the lock is held while the cloud is asked"

    ours.fault("owned", when="after", error=launch_another)
    config = sync(home(), ours).read_text()
    assert OTHER_KEY in known(ours, "new")
    assert "Host new\n" in config
    assert "Host one\n" in config
    assert not known_hosts(home(), "fake.ours", "gone").exists()


def test_tunnel_of_one_project_is_not_ended_by_gc_in_another(
    remote: RemoteCloud, jupyter: str, far_ssh: Path, tmp_path: Path
) -> None:
    remote.account = "ours"
    launch_one(remote, "one")
    record = home() / "ssh/tunnels/faraway.ours/one.json"
    found = json.loads(record.read_text())
    other = RemoteCloud(World(tmp_path / "other"))
    other.account = "theirs"
    tunnel.sweep(other)
    tunnel.close(other, "one")
    assert tunnel.Tunnel(**found).is_alive
    assert tunnel.endpoint(remote, "one", 8888).port == found["port"]
    tunnel.forget(remote, "one")
    assert not record.exists()


def test_port_of_a_tunnel_that_an_older_release_noted_is_taken_over_and_its_process_left_alone(
    remote: RemoteCloud, jupyter: str, far_ssh: Path
) -> None:
    launch_one(remote, "one")
    older = home() / "ssh/tunnels/faraway/one.json"
    first = tunnel.Tunnel(**json.loads(older.read_text()))
    remote.account = "ours"
    identity.pin(home(), "faraway.ours", "one", HOST_KEY)
    with pytest.raises(CloudError, match="no tunnel"):  # it may lead to a machine of this name in another project
        tunnel.endpoint(remote, "one", 8888)
    assert first.is_alive
    os.kill(first.pid, 9)
    until(lambda: not first.is_alive, what="the end of the tunnel", timeout_s=20, poll_s=0.01)  # its port is free then
    shutil.rmtree(home() / "ssh/tunnels/faraway.ours", ignore_errors=True)
    assert tunnel.open_tunnel(remote, "one", sync(home(), remote)).port == first.port
    tunnel.forget(remote, "one")
    assert not older.exists()


def test_gc_in_one_project_forgets_no_note_of_another(ours: FakeCloud, theirs: FakeCloud, ledger: Ledger) -> None:
    for cloud in (ours, theirs):
        ledger.ask(account_key(cloud), Kind.MACHINE, "one", names.client_labels() | ENDED)
    gc.forget_absent(theirs, ledger, now=time.time())
    assert [entry.name for entry in ledger.entries("fake.ours")] == ["one"]
    assert ledger.entries("fake.theirs") == []


def test_note_of_an_older_release_is_kept_until_a_project_is_found_to_have_the_thing(
    ours: FakeCloud, theirs: FakeCloud, ledger: Ledger
) -> None:
    boot(ours, "one", role="builder")
    ours.world.machines["one"].labels.clear()
    ledger.ask("fake", Kind.MACHINE, "one", names.client_labels() | ENDED | {"role": "builder"})
    gc.forget_absent(theirs, ledger, now=time.time())
    garbage = gc.find(ours, ledger, now=0)
    assert [entry.name for entry in ledger.entries("fake")] == ["one"]
    assert gc.collect(ours, ledger, garbage) == []
    assert (ours.world.inventory(), ledger.entries("fake"), ledger.entries("fake.ours")) == ([], [], [])


def test_note_of_an_older_release_that_no_project_has_anything_for_goes_after_some_months(ours: FakeCloud, ledger: Ledger) -> None:
    for name in ("new", "old"):
        ledger.ask("fake", Kind.MACHINE, name, {"client-host": "lab"})
    with sqlite3.connect(home() / "ledger.sqlite3") as connection:
        connection.execute("UPDATE entry SET asked_at = asked_at - ? WHERE name = 'old'", (gc.KEEP_NOTES_S + 60,))
    gc.forget_absent(ours, ledger, now=time.time())
    assert [entry.name for entry in ledger.entries("fake")] == ["new"]
