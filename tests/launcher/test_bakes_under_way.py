"""Machines that a running bake uses: a user may not stop, suspend, start or delete them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clouds import names
from clouds.client import Client, computer, process_start
from clouds.driver import BootSpec
from clouds.errors import ConflictError
from clouds.ledger import Ledger
from launcher.machines import delete
from launcher.power import start, stop, suspend
from tests.cli.verbs import run
from tests.dead import NOBODY
from tests.fake_remote import RemoteCloud

NEXT = "Press Ctrl-C in its terminal, or: kill"


@pytest.fixture
def bake() -> Iterator[int]:
    """Run a process that stands for a bake in another terminal; return its number."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as process:
        yield process.pid


def boot(remote: RemoteCloud, role: str, pid: int) -> None:
    """Boot a machine `bake-x`, as a process would for its bake."""
    client = Client(computer().mark, pid, process_start(pid) or 1)
    labels = names.client_labels() | {"role": role, "client-pid": str(pid), "client-start": str(client.start)}
    remote.boot(BootSpec(name="bake-x", token="t", source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels=labels, deadline_s=0))


@pytest.mark.parametrize(("role", "what"), [("builder", "the builder"), ("test", "a test machine")])
@pytest.mark.parametrize("verb", [stop, suspend, start])
def test_machine_of_a_running_bake_is_neither_stopped_nor_started(
    remote: RemoteCloud, bake: int, verb: object, role: str, what: str
) -> None:
    boot(remote, role, bake)
    remote.calls.clear()
    with pytest.raises(ConflictError) as refused:
        verb(remote, "bake-x")  # type: ignore[operator]
    assert refused.value.message == f"'bake-x' is {what} of a running bake (process {bake})"
    assert refused.value.next_step == f"{NEXT} {bake}"
    assert [call for call in remote.calls if not call.startswith("find")] == []


def test_machine_of_a_running_bake_is_not_deleted(remote: RemoteCloud, bake: int, ledger: Ledger) -> None:
    boot(remote, "builder", bake)
    with pytest.raises(ConflictError):
        delete(remote, ledger, "bake-x")
    assert "bake-x" in remote.world.machines


def test_delete_refuses_it_before_it_asks(remote: RemoteCloud, bake: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clouds.connect", lambda _name=None, _given=None: remote)
    boot(remote, "builder", bake)
    code, _, stderr = run("delete", name="bake-x")
    assert (code, stderr.splitlines()) == (
        1,
        [f"error: 'bake-x' is the builder of a running bake (process {bake})", f"next: {NEXT} {bake}"],
    )


@pytest.mark.parametrize("pid", [NOBODY, os.getpid()], ids=["dead", "this process"])
def test_builder_that_was_kept_is_stopped_and_deleted(remote: RemoteCloud, pid: int, ledger: Ledger) -> None:
    boot(remote, "builder", pid)
    stop(remote, "bake-x")
    delete(remote, ledger, "bake-x")
    assert remote.world.machines == {}
