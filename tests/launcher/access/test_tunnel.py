import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from clouds.client import process_start
from clouds.driver import Endpoint, State
from clouds.errors import CloudError, TimedOutError
from clouds.home import home
from clouds.ledger import Ledger
from launcher import gc
from launcher.access import notebook, tunnel
from launcher.access.identity import known_hosts, sync
from launcher.access.notebook import answers, check_login
from launcher.launch import LaunchOptions, launch
from launcher.machines import delete, machines, notebook_url
from launcher.power import start, stop
from tests.fake_cloud import Killed, interrupt
from tests.fake_remote import RemoteCloud
from tests.launcher.given import launch_one

pytestmark = pytest.mark.program

REFUSED = "notebook@127.0.0.1: Permission denied (publickey).\n"


@pytest.fixture
def one(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> RemoteCloud:
    """Launch a machine `one` with a notebook on a remote cloud."""
    launch_one(remote, "one")
    return remote


def record() -> dict[str, int]:
    found: dict[str, int] = json.loads((home() / "ssh/tunnels/faraway/one.json").read_text())
    return found


def is_alive(found: dict[str, int]) -> bool:
    return process_start(found["pid"]) == found["start"]


def what_is_left() -> list[str]:
    folder = home() / "ssh/tunnels/faraway"
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.exists() else []


def test_notebook_far_away_answers_on_this_computer_with_its_password(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path
) -> None:
    launched = launch(remote, ledger, LaunchOptions(name="one"))
    assert launched.url == f"http://127.0.0.1:{record()['port']}/"
    assert launched.password
    check_login(launched.url, launched.password)


def test_tunnel_is_a_plain_ssh_that_ends_when_it_has_no_port_or_no_connection(one: RemoteCloud, far_ssh: Path) -> None:
    (call,) = (far_ssh / "ssh.calls").read_text().splitlines()
    assert call == (
        f"-N -F {home()}/ssh/config.d/faraway -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -o ServerAliveCountMax=3 "
        f"-L 127.0.0.1:{record()['port']}:127.0.0.1:8888 one"
    )


def test_tunnel_outlives_the_command_and_has_a_session_of_its_own(one: RemoteCloud) -> None:
    pid = record()["pid"]
    assert os.getsid(pid) == pid != os.getsid(0)
    assert is_alive(record())


def test_tunnel_of_another_computer_that_shares_the_home_is_neither_used_nor_ended(one: RemoteCloud) -> None:
    path, mine = home() / "ssh/tunnels/faraway/one.json", record()
    path.write_text(json.dumps(mine | {"computer": "h" + 24 * "0"}))
    assert machines(one)[0].url is None
    tunnel.close(one, "one")
    path.write_text(json.dumps(mine))
    assert is_alive(mine)
    assert machines(one)[0].url == f"http://127.0.0.1:{mine['port']}/"


def test_tunnel_of_an_older_release_is_taken_over(one: RemoteCloud) -> None:
    path, mine = home() / "ssh/tunnels/faraway/one.json", record()
    path.write_text(json.dumps({key: mine[key] for key in ("pid", "start", "port")}))
    assert machines(one)[0].url == f"http://127.0.0.1:{mine['port']}/"
    tunnel.close(one, "one")
    assert not is_alive(mine)


def test_tunnel_of_another_release_is_ended_with_its_machine(one: RemoteCloud) -> None:
    path, mine = home() / "ssh/tunnels/faraway/one.json", record()
    path.write_text(json.dumps(mine | {"added": "by another release"}))
    tunnel.close(one, "one")
    assert not is_alive(mine)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"pid": "x", "start": 1, "port": 1}', "3"])
def test_record_of_a_tunnel_that_cannot_be_read_is_none(one: RemoteCloud, text: str) -> None:
    path, mine = home() / "ssh/tunnels/faraway/one.json", record()
    path.write_text(text)
    assert machines(one)[0].url is None
    path.write_text(json.dumps(mine))


def test_files_of_a_tunnel_are_private(one: RemoteCloud) -> None:
    folder = home() / "ssh/tunnels/faraway"
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != ".lock"} == {
        "one.json": 0o600,
        "one.log": 0o600,
    }


def test_tunnel_opens_once_the_host_key_is_pinned_and_ssh_responds(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> None:
    seen: list[bool] = []
    remote.fault("address", nth=None, error=lambda: seen.append((far_ssh / "ssh.calls").exists()))
    launch_one(remote, "one")
    assert known_hosts(home(), "faraway", "one").exists()
    assert len(seen) >= 2 and not any(seen)


def test_machine_without_a_notebook_needs_no_tunnel(remote: RemoteCloud, minimal: str, far_ssh: Path) -> None:
    launch_one(remote, "one", recipe="minimal")
    assert not (far_ssh / "ssh.calls").exists()


def test_open_reuses_the_open_tunnel(one: RemoteCloud) -> None:
    before = record()
    assert notebook_url(one, "one") == f"http://127.0.0.1:{before['port']}/"
    assert record() == before


def test_open_revives_a_tunnel_that_has_died_on_the_port_that_it_had(one: RemoteCloud) -> None:
    before = record()
    tunnel.close(one, "one")
    assert not is_alive(before)
    url = notebook_url(one, "one")
    assert url == f"http://127.0.0.1:{before['port']}/"
    assert record()["pid"] != before["pid"]
    assert answers(url)


def test_port_that_another_program_has_taken_is_replaced(one: RemoteCloud) -> None:
    before = record()
    tunnel.close(one, "one")
    with socket.create_server(("127.0.0.1", before["port"])):
        assert answers(notebook_url(one, "one"))
    assert record()["port"] != before["port"]


def test_a_process_that_has_its_number_by_chance_is_not_taken_for_it(one: RemoteCloud) -> None:
    tunnel.close(one, "one")
    path = home() / "ssh/tunnels/faraway/one.json"
    path.write_text(json.dumps({**record(), "pid": os.getpid()}))
    tunnel.close(one, "one")  # must not end this process
    assert [view.url for view in machines(one)] == [None]


def test_machines_shows_the_url_while_the_tunnel_lives_and_starts_none(one: RemoteCloud, far_ssh: Path) -> None:
    assert [view.url for view in machines(one)] == [f"http://127.0.0.1:{record()['port']}/"]
    tunnel.close(one, "one")
    calls = (far_ssh / "ssh.calls").read_text()
    assert [view.url for view in machines(one)] == [None]
    assert (far_ssh / "ssh.calls").read_text() == calls


def test_stop_ends_the_tunnel_and_start_opens_it_on_the_same_port(one: RemoteCloud) -> None:
    before = record()
    stop(one, "one")
    assert not is_alive(before)
    assert start(one, "one").url == f"http://127.0.0.1:{before['port']}/"


def test_nothing_of_the_tunnel_is_left_when_its_machine_is_deleted(one: RemoteCloud, ledger: Ledger) -> None:
    before = record()
    delete(one, ledger, "one")
    assert not is_alive(before)
    assert what_is_left() == []


def test_sweeping_closes_the_tunnels_of_stopped_and_deleted_machines(one: RemoteCloud) -> None:
    before = record()
    one.world.machines["one"].state = State.STOPPED
    tunnel.sweep(one)
    assert not is_alive(before)
    assert what_is_left() == ["one.json", "one.log"]
    one.world.machines.clear()
    tunnel.sweep(one)
    assert what_is_left() == []


def test_sweeping_leaves_the_tunnel_of_a_machine_that_is_on(one: RemoteCloud) -> None:
    tunnel.sweep(one)
    assert is_alive(record())


def test_launch_that_is_interrupted_while_its_notebook_starts_leaves_no_tunnel(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notebook, "answers", lambda url, fingerprint: False)
    remote.fault("console", error=interrupt, nth=2)
    with pytest.raises(KeyboardInterrupt):
        launch(remote, ledger, LaunchOptions(name="one"))
    assert (remote.world.machines, what_is_left()) == ({}, [])


@pytest.mark.parametrize("when", ["before", "after"])
def test_launch_that_is_interrupted_leaves_no_tunnel(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path, when: str
) -> None:
    remote.fault("label", when=when, error=interrupt)
    with pytest.raises(KeyboardInterrupt):
        launch(remote, ledger, LaunchOptions(name="one"))
    assert (remote.world.machines, what_is_left()) == ({}, [])


def test_gc_leaves_no_tunnel_of_a_launch_that_was_killed(remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path) -> None:
    remote.fault("label", error=Killed())
    with pytest.raises(Killed):
        launch(remote, ledger, LaunchOptions(name="one"))
    before, second = record(), RemoteCloud(remote.world)
    assert is_alive(before)
    gc.collect(second, ledger, gc.find(second, ledger, now=0.0, is_dead=lambda _labels: True))
    tunnel.sweep(second)
    assert not is_alive(before)
    assert (remote.world.machines, what_is_left()) == ({}, [])


def test_launch_whose_notebook_never_answers_leaves_no_tunnel(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.slowness = 0.01  # its notebook has 0.6 s then
    monkeypatch.setattr(tunnel, "OPEN_S", 6000)  # and the tunnel a minute
    remote.world.addresses["one", 8888] = Endpoint("127.0.0.1", 9)
    with pytest.raises(TimedOutError, match="response of its notebook"):
        launch(remote, ledger, LaunchOptions(name="one"))
    assert (remote.world.machines, what_is_left()) == ({}, [])


def test_ssh_that_does_not_get_in_is_explained_and_leaves_nothing(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path
) -> None:
    (far_ssh / "refusal").write_text(REFUSED)
    with pytest.raises(CloudError, match="rejected this computer's key"):
        launch(remote, ledger, LaunchOptions(name="one"))
    assert (remote.world.machines, what_is_left()) == ({}, [])


@pytest.mark.parametrize("times", [1, 2, 3])
def test_ssh_server_that_ends_the_connection_is_tried_again(
    remote: RemoteCloud, ledger: Ledger, jupyter: str, far_ssh: Path, times: int
) -> None:
    (far_ssh / "refusals").mkdir()
    for number in range(times):
        (far_ssh / f"refusals/{number}").write_text("kex_exchange_identification: Connection closed by remote host\n")
    if times < 3:
        launched = launch(remote, ledger, LaunchOptions(name="one"))
        assert launched.url and launched.password
        check_login(launched.url, launched.password)
    else:
        with pytest.raises(CloudError, match="closed the connection"):
            launch(remote, ledger, LaunchOptions(name="one"))
        assert (remote.world.machines, what_is_left()) == ({}, [])


def test_unknown_message_of_ssh_is_shown_unchanged(one: RemoteCloud, far_ssh: Path) -> None:
    tunnel.close(one, "one")
    (far_ssh / "refusal").write_text("something \x1b[31mnew\n")
    with pytest.raises(CloudError, match="tunnel to its notebook closed\nsomething new"):
        notebook_url(one, "one")


def test_tunnel_needs_a_host_key_that_is_known(one: RemoteCloud) -> None:
    tunnel.close(one, "one")
    known_hosts(home(), "faraway", "one").unlink()
    with pytest.raises(CloudError, match="its host key is not pinned on this computer"):
        notebook_url(one, "one")


def test_two_commands_at_once_open_one_tunnel(one: RemoteCloud, far_ssh: Path) -> None:
    tunnel.close(one, "one")
    before = (far_ssh / "ssh.calls").read_text()
    port = int((one.world.folder / "forwards/one").read_text())
    script = f"""if True:
        from pathlib import Path
        from launcher import gc
        from launcher.access import tunnel
        from tests.fake_world import World
        from tests.fake_remote import RemoteCloud
        cloud = RemoteCloud(World(Path({str(one.world.folder)!r})))
        print(tunnel.open_tunnel(cloud, "one", Path({str(sync(home(), one))!r})).port, {port})"""
    both = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ports = [one.communicate(timeout=30)[0] for one in both]
    assert ports[0] == ports[1] != ""
    assert len((far_ssh / "ssh.calls").read_text().removeprefix(before).splitlines()) == 1


def test_ports_of_local_machines_and_of_ssh_need_no_tunnel(one: RemoteCloud) -> None:
    assert tunnel.endpoint(one, "one", 22) == one.address("one", 22)
    with pytest.raises(CloudError, match="machine 'two': no tunnel is open") as raised:
        tunnel.endpoint(one, "two", 8888)
    assert raised.value.next_step == "Open one: ./inv open two"
