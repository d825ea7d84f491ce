"""What a memory fits, and whether its files are those that were written; no QEMU runs here."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.errors import RestoreError
from clouds.local.host import files
from clouds.local.vm import memory, qemu
from clouds.local.vm.accelerator import KVM, TCG
from clouds.local.vm.record import from_memory, new_record
from tests.clouds.local.small import order

SHAPE = memory.shape(new_record(order("one"), created_at=0), TCG)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Give a memory of few bytes, one file of which is mostly a hole."""
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "disk.qcow2").write_bytes(b"disk")
    (folder / "state").write_bytes(b"devices" * 99)
    with (folder / "ram").open("wb") as file:
        file.truncate(2**24)
        file.seek(2**20)
        file.write(b"what a guest had in mind")
    for path in folder.iterdir():
        os.utime(path, (0, 0))  # long ago: the clock of files may stand still for some milliseconds
    memory.seal(folder, SHAPE, "pc-q35-7.2", is_hashed=True)
    return folder


def test_machine_of_the_same_shape_can_go_on(kept: Path) -> None:
    assert memory.difference(kept, SHAPE) == ""
    memory.check(kept)


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (replace(SHAPE, cpus=4), "4 processors, and its memory was frozen with 1"),
        (replace(SHAPE, memory_mb=128), "128 MB, and its memory was frozen with 64 MB"),
        (memory.shape(new_record(order("one"), created_at=0), KVM), "frozen under tcg, and this is kvm"),
        (replace(SHAPE, qemu="8.0"), "another QEMU"),
        (replace(SHAPE, processor="x"), "another processor"),
        (replace(SHAPE, devices="x"), "another Bakehouse"),
    ],
)
def test_what_keeps_a_machine_from_going_on_is_told(kept: Path, wanted: memory.Shape, reason: str) -> None:
    assert reason in memory.difference(kept, wanted)


def test_memory_of_another_qemu_may_be_tried(kept: Path) -> None:
    assert memory.difference(kept, replace(SHAPE, qemu="8.0"), any_qemu=True) == ""
    assert "another processor" in memory.difference(kept, replace(SHAPE, qemu="8.0", processor="x"), any_qemu=True)


def test_machine_has_the_type_with_which_its_memory_was_saved(kept: Path, tmp_path: Path) -> None:
    record = from_memory(new_record(order("one"), created_at=0), tmp_path / "machine", kept)
    argv = " ".join(qemu.arguments(record, TCG, {"vmlinuz": "v", "initrd": "i", "cmdline": "c"}))
    assert "-machine pc-q35-7.2,sata=off" in argv
    booted = from_memory(record, tmp_path / "machine", None)
    assert "-machine q35,sata=off" in " ".join(qemu.arguments(booted, TCG, {"vmlinuz": "v", "initrd": "i", "cmdline": "c"}))


def test_memory_that_goes_while_it_is_looked_at_is_not_whole(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = memory._stamp
    monkeypatch.setattr(memory, "_stamp", lambda path: path.unlink() or stamp(path))
    assert not memory.is_whole(kept)


def test_where_there_is_no_memory_nothing_can_go_on(tmp_path: Path) -> None:
    assert memory.difference(tmp_path, SHAPE)
    assert memory.size_bytes(tmp_path) == 0


@pytest.mark.parametrize("name", ["ram", "state", "disk.qcow2"])
def test_file_that_has_changed_is_damage(kept: Path, name: str) -> None:
    content = bytearray((kept / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kept / name).write_bytes(content)
    with pytest.raises(RestoreError, match=f"damaged: {name} has changed"):
        memory.check(kept)


@pytest.mark.parametrize("name", ["ram", "state", "disk.qcow2", memory.RECORD])
def test_file_that_is_gone_is_damage(kept: Path, name: str) -> None:
    (kept / name).unlink()
    with pytest.raises(RestoreError, match="is gone"):
        memory.check(kept)


def test_memory_that_was_moved_is_as_good_and_is_read_once_only(kept: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(kept, tmp_path / "moved"))  # which also fills its holes
    memory.check(moved)
    stamps = files.read_json(moved / memory.RECORD)
    assert stamps
    assert stamps["files"]["ram"]["stamp"][0] == (moved / "ram").stat().st_ino


def test_damage_cannot_be_hidden_behind_the_old_time(kept: Path) -> None:
    before = (kept / "state").stat()
    time.sleep(0.02)
    (kept / "state").write_bytes(b"DEVICES" * 99)
    os.utime(kept / "state", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RestoreError, match="state has changed"):
        memory.check(kept)


def test_memory_that_was_not_hashed_is_not_trusted_elsewhere(kept: Path, tmp_path: Path) -> None:
    memory.seal(kept, SHAPE, "pc-q35-7.2")
    assert memory.is_whole(kept)
    assert not memory.is_whole(Path(shutil.copytree(kept, tmp_path / "moved")))
