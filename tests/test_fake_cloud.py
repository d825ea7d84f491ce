"""The instruments of the fast tests: the fake's faults, and the guard."""

import socket
import subprocess

import pytest

from clouds.driver import BootSpec, Kind
from clouds.errors import CapacityError
from tests.fake_cloud import FakeCloud, Killed, interrupt
from tests.fake_world import World


def spec(name: str) -> BootSpec:
    return BootSpec(name=name, token=name, source="base-x", cpus=1, memory_mb=1, disk_gb=1, labels={}, deadline_s=0)


def test_fault_before_has_no_effect(fake: FakeCloud) -> None:
    fake.fault("boot", when="before", error=CapacityError("full"))
    with pytest.raises(CapacityError):
        fake.boot(spec("a"))
    assert fake.world.inventory() == []


def test_fault_after_comes_when_all_is_done(fake: FakeCloud) -> None:
    fake.fault("boot", when="after", error=CapacityError("full"))
    with pytest.raises(CapacityError):
        fake.boot(spec("a"))
    assert fake.world.inventory() == ["machine a running"]


def test_fault_strikes_the_nth_call_alone(fake: FakeCloud) -> None:
    fake.fault("boot", error=CapacityError("full"), nth=2)
    fake.boot(spec("a"))
    with pytest.raises(CapacityError):
        fake.boot(spec("b"))
    fake.boot(spec("c"))
    assert list(fake.world.machines) == ["a", "c"]


def test_fault_can_strike_every_call(fake: FakeCloud) -> None:
    fake.fault("delete", error=CapacityError("full"), nth=None)
    for _ in range(2):
        with pytest.raises(CapacityError):
            fake.delete(Kind.MACHINE, "a")


def test_killed_client_can_do_nothing_more_but_another_can(fake: FakeCloud, world: World) -> None:
    fake.boot(spec("a"))
    fake.fault("find", error=Killed())
    for _ in range(2):
        with pytest.raises(Killed):
            fake.find(Kind.MACHINE, "a")
    with pytest.raises(Killed):
        fake.delete(Kind.MACHINE, "a")
    assert FakeCloud(world).find(Kind.MACHINE, "a")


def test_interrupt_is_a_real_signal(fake: FakeCloud) -> None:
    fake.fault("find", error=interrupt)
    with pytest.raises(KeyboardInterrupt):
        fake.find(Kind.MACHINE, "a")


@pytest.mark.parametrize("program", ["qemu-system-x86_64", "/usr/bin/qemu-system-x86_64", "mmdebstrap"])
def test_fast_test_cannot_run_a_machine(program: str) -> None:
    with pytest.raises(pytest.fail.Exception, match="must not run"):
        subprocess.run([program, "--version"], check=False)


def test_fast_test_cannot_leave_this_computer() -> None:
    with pytest.raises(pytest.fail.Exception, match="must not connect"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)


def test_fast_test_may_use_loopback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
