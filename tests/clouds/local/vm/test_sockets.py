"""Talking to QEMU and to the guest's agent, over real sockets that small servers answer."""

import base64
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from clouds.errors import CloudError, HostFullError, TimedOutError
from clouds.local.host.command import as_cloud_errors
from clouds.local.vm import console
from clouds.local.vm.qemu import AGENT, QMP
from clouds.local.vm.sockets import Agent, Monitor, qmp

Answer = Callable[[dict[str, Any]], dict[str, Any] | None]


@contextmanager
def serving(folder: Path, name: str, answer: Answer, *, greeting: bytes = b"") -> Iterator[list[dict[str, Any]]]:
    """Answer one client after the other on a socket in a folder; give the list of what was asked."""
    asked: list[dict[str, Any]] = []
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    descriptor = os.open(folder, os.O_PATH)
    server.bind(f"/proc/self/fd/{descriptor}/{name}")
    os.close(descriptor)
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client, suppress(OSError):
                _converse(client, answer, greeting, asked)

    threading.Thread(target=serve, daemon=True).start()
    yield asked
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def _converse(client: socket.socket, answer: Answer, greeting: bytes, asked: list[dict[str, Any]]) -> None:
    client.sendall(greeting)
    for message in _messages(client):
        asked.append(message)
        if (reply := answer(message)) is not None:
            number = {"id": message["id"]} if "id" in message else {}
            client.sendall(json.dumps({**reply, **number}).encode() + b"\n")


def _messages(client: socket.socket) -> Iterator[dict[str, Any]]:
    """Give the messages of a client as they end: QMP's have no newline after them."""
    received = ""
    while piece := client.recv(65536):
        received += piece.replace(b"\xff", b"").decode()
        with suppress(json.JSONDecodeError):
            while received := received.lstrip():
                message, end = json.JSONDecoder().raw_decode(received)
                received = received[end:]
                yield message


def greeting(major: int, minor: int) -> bytes:
    """Return what a QEMU of this version says first."""
    version = {"qemu": {"micro": 0, "minor": minor, "major": major}, "package": ""}
    return json.dumps({"QMP": {"version": version, "capabilities": []}}).encode() + b"\n"


GREETING = greeting(7, 2)


def status(text: str) -> Answer:
    """Return a QEMU that is in this state."""
    return lambda message: {"return": {"status": text} if message["execute"] == "query-status" else {}}


def test_qemu_answers_also_in_a_folder_with_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    with serving(folder, QMP, status("running"), greeting=GREETING):
        assert qmp(folder, "query-status")["status"] == "running"
        assert qmp(folder, "query-status")["status"] == "running"


def test_qemu_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        qmp(tmp_path, "query-status")


@pytest.mark.parametrize(("state", "is_full"), [("io-error", True), ("running", False), ("paused", False)])
def test_machine_paused_for_want_of_space_is_told_as_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, is_full: bool
) -> None:
    monkeypatch.setattr(console, "_LOW_BYTES", 2**70)
    expected = pytest.raises(HostFullError, match="paused") if is_full else nullcontext()
    with serving(tmp_path, QMP, status(state), greeting=GREETING) as asked, expected:
        console.check_space(tmp_path)
    assert "query-status" in [message["execute"] for message in asked]


def test_with_space_enough_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_LOW_BYTES", 0)
    with serving(tmp_path, QMP, status("io-error"), greeting=GREETING) as asked:
        console.check_space(tmp_path)
    assert asked == []


def late(*commands: str, by_s: float = 0.4) -> Answer:
    """Return a QEMU that answers these commands late."""

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] in commands:
            time.sleep(by_s)
        return {"return": {"status": "paused"}}

    return answer


def test_answer_that_waits_for_a_slow_disk_is_waited_for(tmp_path: Path) -> None:
    commands = ["stop", "cont", "quit", "migrate_cancel", "blockdev-snapshot-sync", "block_resize"]

    def ask(command: str) -> object:
        folder = tmp_path / command
        folder.mkdir()
        with serving(folder, QMP, late(command, by_s=1.5), greeting=GREETING), Monitor(folder, timeout_s=1) as monitor:
            return monitor.execute(command)

    with ThreadPoolExecutor(len(commands)) as pool:
        assert list(pool.map(ask, commands)) == [{"status": "paused"}] * len(commands)


def test_time_is_counted_for_each_answer_anew(tmp_path: Path) -> None:
    with serving(tmp_path, QMP, late("migrate_cancel"), greeting=GREETING), Monitor(tmp_path, timeout_s=1) as monitor:
        monitor.execute("migrate_cancel")
        time.sleep(1)  # so long takes the removal of a memory, say
        assert monitor.execute("query-status") == {"status": "paused"}


def test_answer_that_does_not_wait_for_the_disk_is_not_waited_for_so_long(tmp_path: Path) -> None:
    expected = pytest.raises(TimeoutError, match="no reply to 'query-status' from QEMU within 1 s; it may be waiting for the disk")
    never_in_time = late("query-status", by_s=2)
    with serving(tmp_path, QMP, never_in_time, greeting=GREETING), Monitor(tmp_path, timeout_s=1) as monitor, expected:
        monitor.execute("query-status")


def test_disk_that_does_not_answer_ends_the_wait_with_the_machine_s_name(tmp_path: Path) -> None:
    folder = tmp_path / "lab"
    folder.mkdir()
    expected = pytest.raises(CloudError, match="machine 'lab': no reply to 'stop' from QEMU within 1 s")
    with (
        serving(folder, QMP, late("stop", by_s=2), greeting=GREETING),
        expected as caught,
        as_cloud_errors(tmp_path),
        Monitor(folder, timeout_s=1, disk_s=1.1) as monitor,
    ):
        monitor.execute("stop")
    assert "slow or busy" in caught.value.next_step


def test_qemu_that_is_busy_with_its_disk_is_waited_for_before_it_greets(tmp_path: Path) -> None:
    with serving(tmp_path, QMP, status("running")), pytest.raises(TimeoutError, match="no greeting from QEMU"):
        Monitor(tmp_path, timeout_s=0.1)


def test_program_in_the_guest_may_be_given_more_time_than_the_agent(tmp_path: Path) -> None:
    with serving(tmp_path, AGENT, guest(polls=8)), Agent(tmp_path, timeout_s=1) as agent:
        time.sleep(1)
        agent.execute("sync", timeout_s=10)


def guest(*, exit_code: int = 0, err: str = "", polls: int = 1) -> Answer:
    """Return an agent whose programs end like this, after so many questions."""
    left = [polls]

    def answer(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] == "guest-sync-delimited":
            return {"return": message["arguments"]["id"]}
        if message["execute"] == "guest-exec":
            return {"return": {"pid": 7}}
        left[0] -= 1
        ended = {"exited": True, "exitcode": exit_code, "err-data": base64.b64encode(err.encode()).decode()}
        return {"return": {"exited": False} if left[0] > 0 else ended}

    return answer


def test_program_in_the_guest_is_run_to_its_end_with_its_input(tmp_path: Path) -> None:
    with serving(tmp_path, AGENT, guest(polls=3)) as asked, Agent(tmp_path, timeout_s=10) as agent:
        agent.execute("/usr/bin/thing", stdin="a key")
    given = next(message["arguments"] for message in asked if message["execute"] == "guest-exec")
    assert given["path"] == "/usr/bin/thing"
    assert base64.b64decode(given["input-data"]) == b"a key"
    assert [message["execute"] for message in asked].count("guest-exec-status") == 3


def test_agent_is_not_asked_all_the_time_while_a_program_runs(tmp_path: Path) -> None:
    begun, at_once = time.monotonic(), guest()

    def slow(message: dict[str, Any]) -> dict[str, Any] | None:
        if message["execute"] == "guest-exec-status" and time.monotonic() - begun < 0.5:
            return {"return": {"exited": False}}
        return at_once(message)

    with serving(tmp_path, AGENT, slow) as asked, Agent(tmp_path, timeout_s=30) as agent:
        agent.execute("/usr/bin/thing")
    assert [message["execute"] for message in asked].count("guest-exec-status") < 30


@pytest.mark.parametrize("is_silent", [False, True])
def test_program_in_the_guest_that_does_not_end_is_an_error_in_time(tmp_path: Path, is_silent: bool) -> None:
    endless = guest(polls=10**9)

    def answer(message: dict[str, Any]) -> dict[str, Any] | None:
        return None if is_silent and message["execute"] == "guest-exec-status" else endless(message)

    refused = pytest.raises(TimedOutError, match="/usr/bin/thing in the guest: timed out")
    with serving(tmp_path, AGENT, answer), Agent(tmp_path, timeout_s=30) as agent, refused as told:
        agent.execute("/usr/bin/thing", timeout_s=0.3)
    assert told.value.next_step


def test_program_that_fails_in_the_guest_is_an_error_with_its_words(tmp_path: Path) -> None:
    failing = guest(exit_code=3, err="no such host key")
    refused = pytest.raises(CloudError, match="no such host key")
    with serving(tmp_path, AGENT, failing), Agent(tmp_path, timeout_s=10) as agent, refused:
        agent.execute("/usr/bin/thing")


def test_agent_that_refuses_is_an_error_with_its_reason(tmp_path: Path) -> None:
    def refuse(message: dict[str, Any]) -> dict[str, Any]:
        if message["execute"] == "guest-sync-delimited":
            return {"return": message["arguments"]["id"]}
        return {"error": {"class": "CommandNotFound", "desc": "has been disabled"}}

    refused = pytest.raises(CloudError, match="has been disabled")
    with serving(tmp_path, AGENT, refuse), Agent(tmp_path, timeout_s=10) as agent, refused:
        agent.shut_down()


def test_what_an_earlier_conversation_left_is_dropped(tmp_path: Path) -> None:
    left_over = b'{"return": {"pid": 1}}\n\xff{"return": 5}\n'
    with serving(tmp_path, AGENT, guest(), greeting=left_over) as asked, Agent(tmp_path, timeout_s=10) as agent:
        agent.shut_down()
    assert asked[-1]["execute"] == "guest-exec"


def test_agent_that_is_silent_is_an_os_error_in_time(tmp_path: Path) -> None:
    with serving(tmp_path, AGENT, lambda message: None), pytest.raises(OSError, match="timed out"):
        Agent(tmp_path, timeout_s=0.2)
