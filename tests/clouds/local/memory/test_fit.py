"""Which machine a saved memory fits; no QEMU runs here."""

from dataclasses import replace
from pathlib import Path

import pytest

from clouds.local.memory import trust
from clouds.local.memory.fit import Shape, booting, difference, next_start, shape
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import KVM, TCG
from clouds.local.vm.record import new_record
from tests.clouds.local.small import order

SHAPE = shape(new_record(order("one"), created_at=0), TCG)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Give a saved memory without content."""
    folder = tmp_path / "memory"
    folder.mkdir()
    trust.seal(folder, SHAPE, "pc-q35-7.2")
    return folder


def test_machine_of_the_same_shape_can_go_on(kept: Path) -> None:
    assert difference(kept, SHAPE) == ""


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (replace(SHAPE, cpus=4), "4 processors, but its memory was saved with 1"),
        (replace(SHAPE, memory_mb=128), "128 MB, but its memory was saved with 64 MB"),
        (shape(new_record(order("one"), created_at=0), KVM), "accelerator kvm, but its memory was saved with tcg"),
        (replace(SHAPE, qemu="8.0"), "another QEMU"),
        (replace(SHAPE, processor="x"), "another processor"),
        (replace(SHAPE, devices="x"), "another version of Bakehouse"),
    ],
)
def test_what_keeps_a_machine_from_going_on_is_told(kept: Path, wanted: Shape, reason: str) -> None:
    assert reason in difference(kept, wanted)


def test_a_single_processor_is_no_plural(kept: Path) -> None:
    trust.seal(kept, replace(SHAPE, cpus=2), "pc-q35-7.2")
    assert difference(kept, SHAPE) == "1 processor, but its memory was saved with 2"


def test_memory_of_another_qemu_may_be_tried(kept: Path) -> None:
    assert difference(kept, replace(SHAPE, qemu="8.0"), any_qemu=True) == ""
    assert "another processor" in difference(kept, replace(SHAPE, qemu="8.0", processor="x"), any_qemu=True)


def test_machine_has_the_type_with_which_its_memory_was_saved(kept: Path, tmp_path: Path) -> None:
    record = next_start(new_record(order("one"), created_at=0), tmp_path / "machine", kept)
    argv = " ".join(qemu.arguments(record, TCG, {"vmlinuz": "v", "initrd": "i", "cmdline": "c"}))
    assert "-machine pc-q35-7.2,sata=off" in argv
    booted = next_start(record, tmp_path / "machine", None)
    assert "-machine q35,sata=off" in " ".join(qemu.arguments(booted, TCG, {"vmlinuz": "v", "initrd": "i", "cmdline": "c"}))


def test_nothing_is_restored_where_there_is_no_saved_memory(tmp_path: Path) -> None:
    assert difference(tmp_path, SHAPE)


def test_record_of_a_machine_whose_memory_is_gone_is_that_of_one_that_boots(tmp_path: Path) -> None:
    new = new_record(order("one"), created_at=1.5)
    suspended = next_start(new, tmp_path, tmp_path / "suspended")
    assert suspended.memory == "suspended"
    assert next_start(suspended, tmp_path, None) == booting(suspended) == new
