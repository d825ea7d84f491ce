"""A machine that is restored from its image's memory, and its guest: servers stand for QEMU and for the guest."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clouds.errors import RestoreError, UnresponsiveError
from clouds.local.memory.resume import resume
from clouds.local.memory.transport import STATE
from clouds.local.vm.qemu import DISK, ORDER, QMP
from clouds.local.vm.record import MachineRecord
from tests.clouds.local.memory.test_transport import qemu_of
from tests.clouds.local.vm.test_sockets import GREETING, serving

SAVED = MachineRecord(name="one", memory="memory")
REFUSAL = "ValueError: a machine that is restored from memory has no certificate"


class Refusing(socketserver.StreamRequestHandler):
    """A guest that refuses each order."""

    def handle(self) -> None:
        for line in self.rfile:
            if line.startswith(b"order "):
                self.wfile.write(f"refused {line.split()[1].decode()} {REFUSAL}\n".encode())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder of a machine whose QEMU waits for the memory; it is also the working directory: a short path of sockets."""
    monkeypatch.chdir(tmp_path)
    Path("memory").mkdir()
    for name in (STATE, DISK):
        Path("memory", name).touch()
    with serving(tmp_path, QMP, qemu_of((7, 2)), greeting=GREETING):
        yield tmp_path


@contextmanager
def refusing() -> Iterator[None]:
    """Serve a guest in the working directory."""
    with socketserver.ThreadingUnixStreamServer(ORDER, Refusing) as guest:
        threading.Thread(target=guest.serve_forever, args=[0.01], daemon=True).start()
        yield
        guest.shutdown()


def test_refused_order_is_no_missing_response(machine: Path) -> None:
    """Another machine from the same memory would refuse it too, so it is not to be restored once more."""
    with refusing(), pytest.raises(RestoreError, match=f"^machine 'one' cannot be restored .*: {REFUSAL}") as raised:
        resume(machine, SAVED)
    assert not isinstance(raised.value, UnresponsiveError)


def test_guest_that_takes_no_order_did_not_respond(machine: Path) -> None:
    with pytest.raises(UnresponsiveError, match=r"^machine 'one' did not respond after it was restored from memory"):
        resume(machine, SAVED)
