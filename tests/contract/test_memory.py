"""What every cloud does alike whose images can carry the memory of a machine; name such a cloud in KEEPING."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clouds import markers, names
from clouds.capabilities import KeepsMemory
from clouds.driver import BootSpec, Cloud, Kind
from clouds.errors import ConflictError, NotFoundError
from clouds.lifecycle import is_running, settle
from clouds.waiter import until
from launcher.restore import own_facts
from tests.contract.bench import BOOT_S, Bench

KEEPING = ["keeping", pytest.param("local", marks=pytest.mark.vm)]
pytestmark = pytest.mark.parametrize("bench", KEEPING, indirect=True, scope="package")


@pytest.fixture(scope="module")
def memory(bench: Bench) -> KeepsMemory:
    """Give the driver as what keeps memory."""
    assert isinstance(bench.cloud, KeepsMemory)
    return bench.cloud


@pytest.fixture(scope="module")
def frozen(bench: Bench, memory: KeepsMemory, image: str) -> BootSpec:
    """Give the order of a machine whose memory its image carries, and which is off."""
    assert memory.memory_bytes(image) == 0
    nonce = names.new_nonce()
    spec = replace(bench.spec(image), facts={"NONCE": nonce, "FREEZE": "1"}, ports=(), freezes=True)
    assert memory.unfit(spec)
    settle(bench.cloud, bench.cloud.boot(spec))
    await_waiting(bench.cloud, spec.name, nonce)
    settle(bench.cloud, memory.freeze(spec.name, image), timeout_s=300)
    return spec


def await_waiting(cloud: Cloud, machine: str, nonce: str) -> None:
    """Wait until a machine has told that it waits to be frozen."""

    def is_waiting() -> bool:
        text = cloud.console(machine).text
        assert is_running(cloud, machine), text[-2000:]
        told = [markers.parse(line, nonce) for line in markers.split_lines("", text)[0]]
        return markers.Fact("ready", "memory") in told

    until(is_waiting, what=f"{machine} waits", timeout_s=BOOT_S * cloud.slowness, poll_s=0.5)


def restored(bench: Bench, memory: KeepsMemory, image: str) -> tuple[BootSpec, str]:
    """Restore a machine that runs the contract's script, wait until that has told so; return its order and its nonce."""
    nonce = names.new_nonce()
    spec = bench.spec(image, nonce=nonce)
    told = {"MACHINE": spec.name, "NONCE": nonce, "AUTHORIZED_KEY": "", "PASSWORD_HASH": "", "EXPIRES": "0"}
    spec = replace(spec, facts=told | own_facts(spec.name))
    settle(bench.cloud, memory.restore(spec))
    bench.await_script(spec.name, nonce)
    return spec, nonce


@pytest.fixture(scope="module")
def one(bench: Bench, memory: KeepsMemory, image: str, frozen: BootSpec) -> tuple[BootSpec, str]:
    """Give a machine that was restored and has run a script, and its nonce."""
    return restored(bench, memory, image)


def test_machine_that_was_frozen_is_off_and_its_image_carries_a_memory(
    cloud: Cloud, memory: KeepsMemory, image: str, frozen: BootSpec
) -> None:
    assert not is_running(cloud, frozen.name)
    assert memory.memory_bytes(image) > 0


def test_machine_of_the_same_shape_fits_the_memory(memory: KeepsMemory, frozen: BootSpec) -> None:
    assert memory.unfit(frozen) == ""


def test_machine_of_another_shape_does_not_and_the_reason_is_told(memory: KeepsMemory, frozen: BootSpec) -> None:
    assert str(frozen.cpus + 1) in memory.unfit(replace(frozen, cpus=frozen.cpus + 1))
    assert str(2 * frozen.memory_mb) in memory.unfit(replace(frozen, memory_mb=2 * frozen.memory_mb))


def test_restored_machine_runs_with_its_labels_and_has_booted_nothing(cloud: Cloud, one: tuple[BootSpec, str]) -> None:
    spec, nonce = one
    found = cloud.find(Kind.MACHINE, spec.name)
    assert found
    assert spec.labels.items() <= found.labels.items()
    assert is_running(cloud, spec.name)
    text = cloud.console(spec.name).text
    assert nonce in text
    assert "Linux version" not in text


def test_second_machine_goes_on_from_the_same_memory_beside_the_first(
    bench: Bench, cloud: Cloud, memory: KeepsMemory, image: str, one: tuple[BootSpec, str]
) -> None:
    second, _ = restored(bench, memory, image)
    assert is_running(cloud, second.name)
    assert is_running(cloud, one[0].name)


def test_restoring_again_with_the_same_token_is_the_same_machine(
    cloud: Cloud, memory: KeepsMemory, one: tuple[BootSpec, str]
) -> None:
    before = cloud.find(Kind.MACHINE, one[0].name)
    settle(cloud, memory.restore(one[0]))
    assert cloud.find(Kind.MACHINE, one[0].name) == before


def test_restoring_to_a_name_that_is_taken_is_a_conflict_and_harms_nobody(
    cloud: Cloud, memory: KeepsMemory, one: tuple[BootSpec, str]
) -> None:
    with pytest.raises(ConflictError, match=one[0].name):
        settle(cloud, memory.restore(replace(one[0], token=names.new_nonce())))
    assert is_running(cloud, one[0].name)


def test_freezing_what_is_not_there_is_not_found(cloud: Cloud, memory: KeepsMemory, image: str) -> None:
    with pytest.raises(NotFoundError, match="contract-nosuch"):
        settle(cloud, memory.freeze("contract-nosuch", image))
