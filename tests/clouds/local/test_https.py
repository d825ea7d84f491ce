"""The port of this computer at which a notebook is open with TLS: the one that the user has chosen, or none."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import BootSpec, Wishes
from clouds.errors import ConflictError
from clouds.local.machines import Machines
from clouds.local.store import Store
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import TCG
from tests.clouds.local.small import needs_tools, order

pytestmark = needs_tools


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file with the arguments of each QEMU that is started, which ends at once."""
    program = tmp_path / "bin" / qemu.PROGRAM
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/arguments\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path / "arguments"


@pytest.fixture
def taken() -> Iterator[socket.socket]:
    """Return a server that has a port of this computer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def spec(taken: socket.socket) -> BootSpec:
    """Return the order of a machine that is to have that port."""
    port = int(taken.getsockname()[1])
    one = order("one")
    return replace(one, ports=(22, port), labels={**one.labels, "https": str(port)}, wishes=Wishes(https_port=port))


def test_port_in_use_is_refused_before_anything_is_made(store: Store, spec: BootSpec, arguments: Path) -> None:
    with pytest.raises(ConflictError, match=f"port {spec.wishes.https_port} of this computer is in use") as raised:
        Machines(store).create(spec, TCG)
    assert "another --port" in raised.value.next_step
    assert not store.machines.exists()
    assert not arguments.exists()


def test_port_is_the_chosen_one_at_each_start_or_the_machine_is_not_started(
    store: Store, spec: BootSpec, taken: socket.socket, arguments: Path
) -> None:
    machines, port = Machines(store), spec.wishes.https_port
    machines.prepare(spec)
    with pytest.raises(ConflictError, match="is in use"):
        machines.start("one", TCG, deadline_s=60, facts={})
    assert not arguments.exists()
    taken.close()
    machines.start("one", TCG, deadline_s=60, facts={})
    assert machines.port("one", port) == port


def test_port_that_only_root_may_open_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_port: int) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(qemu, "_bind", refuse)
    with pytest.raises(ConflictError, match="port 443 of this computer can be opened by root only"):
        qemu.check_free(443)
