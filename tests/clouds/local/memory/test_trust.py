"""Whether the files of a saved memory are those that were written; no QEMU runs here."""

import os
import shutil
import time
from pathlib import Path

import pytest

from clouds.errors import RestoreError
from clouds.local.host import files
from clouds.local.memory import trust
from clouds.local.memory.fit import RECORD, Shape

SHAPE = Shape("tcg", "emulated", "7.2", 1, 64, "devices")


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
    trust.seal(folder, SHAPE, "pc-q35-7.2", is_hashed=True)
    return folder


def test_memory_that_goes_while_it_is_looked_at_is_not_whole(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = trust._stamp
    monkeypatch.setattr(trust, "_stamp", lambda path: path.unlink() or stamp(path))
    assert not trust.is_whole(kept)


def test_folder_without_saved_memory_has_no_size(tmp_path: Path) -> None:
    assert trust.size_bytes(tmp_path) == 0


@pytest.mark.parametrize("name", ["ram", "state", "disk.qcow2"])
def test_file_that_has_changed_is_damage(kept: Path, name: str) -> None:
    content = bytearray((kept / name).read_bytes())
    content[len(content) // 2] ^= 1
    (kept / name).write_bytes(content)
    with pytest.raises(RestoreError, match=f"damaged: {name} has changed"):
        trust.check(kept)


@pytest.mark.parametrize("name", ["ram", "state", "disk.qcow2", RECORD])
def test_file_that_is_gone_is_damage(kept: Path, name: str) -> None:
    (kept / name).unlink()
    with pytest.raises(RestoreError, match="is missing"):
        trust.check(kept)


def test_memory_that_was_moved_is_as_good_and_is_read_once_only(kept: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(kept, tmp_path / "moved"))  # which also fills its holes
    trust.check(moved)
    stamps = files.read_json(moved / RECORD)
    assert stamps
    assert stamps["files"]["ram"]["stamp"][0] == (moved / "ram").stat().st_ino


def test_damage_cannot_be_hidden_behind_the_old_time(kept: Path) -> None:
    before = (kept / "state").stat()
    time.sleep(0.02)
    (kept / "state").write_bytes(b"DEVICES" * 99)
    os.utime(kept / "state", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(RestoreError, match="state has changed"):
        trust.check(kept)


def test_memory_that_was_not_hashed_is_not_trusted_elsewhere(kept: Path, tmp_path: Path) -> None:
    trust.seal(kept, SHAPE, "pc-q35-7.2")
    assert trust.is_whole(kept)
    assert not trust.is_whole(Path(shutil.copytree(kept, tmp_path / "moved")))
