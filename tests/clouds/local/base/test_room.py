"""Where a tree of Debian is built without root: on a disk before in memory, and never where it does not fit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.errors import HostFullError
from clouds.local.base import room
from clouds.local.base.room import MEMORY_BYTES, TREE_BYTES, Place

GIB = 2**30
DISK = Place(Path("/var/tmp"), True, free_bytes=100 * GIB, device=1)
MEMORY = Place(Path("/tmp"), True, free_bytes=100 * GIB, device=2, in_memory=True)

# Debian 13 with a /tmp in memory and a root on btrfs, whose number in stat is another one than here
MOUNTS = """29 1 0:26 /@ / rw,relatime shared:1 - btrfs /dev/vda2 rw,space_cache=v2
35 29 0:32 / /tmp rw,nosuid,nodev shared:16 - tmpfs tmpfs rw,size=1014740k,nr_inodes=1048576
77 29 254:1 / /boot\\040files rw,relatime shared:39 master:2 - ext4 /dev/vda1 rw
"""


def test_first_folder_that_fits_is_taken() -> None:
    assert room.choose([DISK, MEMORY], 0, {}) == DISK.folder
    assert room.choose([MEMORY, DISK], 100 * GIB, {}) == MEMORY.folder


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (replace(DISK, is_open=False), "not accessible for other users"),
        (replace(DISK, folder=Path('/var/"tmp"')), "double quote"),
        (replace(DISK, is_noexec=True), "mounted noexec"),
        (replace(DISK, free_bytes=TREE_BYTES - 1), "1535 MB free, 1536 MB needed"),
        (replace(MEMORY, free_bytes=TREE_BYTES - 1), "1535 MB free, 1536 MB needed"),
    ],
)
def test_folder_that_does_not_fit_is_passed_over_and_reported(place: Place, told: str) -> None:
    other = replace(DISK, folder=Path("/srv"))
    assert room.choose([place, other], 100 * GIB, {}) == other.folder
    with pytest.raises(HostFullError, match=told) as raised:
        room.choose([place], 100 * GIB, {})
    assert str(place.folder) in str(raised.value)
    assert "TMPDIR" in raised.value.next_step


def test_tree_in_memory_has_to_leave_memory_for_the_build() -> None:
    enough = TREE_BYTES + MEMORY_BYTES
    assert room.objection(MEMORY, enough, 0) == ""
    assert room.objection(MEMORY, enough - 1, 0) == "a tmpfs; 2559 MB of memory available, 2560 MB needed"
    assert room.objection(DISK, 0, 0) == ""


def test_scratch_folder_on_the_same_disk_takes_its_share() -> None:
    tight = replace(DISK, free_bytes=TREE_BYTES + GIB)
    assert room.choose([tight], 0, {7: 2 * GIB}) == tight.folder
    with pytest.raises(HostFullError, match="2560 MB free, 3584 MB needed"):
        room.choose([tight], 0, {tight.device: 2 * GIB})


def test_disk_comes_before_tmp_and_the_choice_of_the_user_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "mine"))
    scratch = tmp_path / "home/local/bases/.partial"
    scratch.mkdir(parents=True)
    store = [scratch, scratch.parent, scratch.parent.parent]
    assert room.candidates(scratch) == [tmp_path / "mine", *store, Path("/var/tmp").resolve(), Path("/tmp").resolve()]
    monkeypatch.delenv("TMPDIR")
    assert room.candidates(scratch)[0] == scratch


def test_folder_below_a_closed_one_is_closed(tmp_path: Path) -> None:
    below = tmp_path / "closed" / "below"
    below.mkdir(parents=True)
    below.parent.chmod(0o700)
    assert not room.inspect(below, "").is_open
    assert not room.inspect(tmp_path / "gone", "").is_open
    assert room.inspect(Path("/var/tmp"), "").is_open


@pytest.mark.parametrize(("major", "minor", "found"), [(0, 32, "tmpfs"), (254, 1, "ext4"), (0, 26, "btrfs"), (0, 27, "")])
def test_filesystem_is_read_from_mountinfo(major: int, minor: int, found: str) -> None:
    assert room.filesystem(os.makedev(major, minor), MOUNTS) == found


def test_available_memory_is_read_from_meminfo() -> None:
    assert room.available_memory("MemTotal:       2029484 kB\nMemAvailable:    1500000 kB\n") == 1500000 * 1024
    assert room.available_memory("") == 0


@pytest.fixture
def tmpfs() -> Iterator[Path]:
    """Give a real tmpfs of 64 MiB which all users may enter."""
    folder = Path(
        subprocess.run(["mktemp", "-d", "/var/tmp/tmpfs-XXXXXX"], check=True, capture_output=True, text=True).stdout.strip()
    )
    folder.chmod(0o755)
    mount = ["mount", "-t", "tmpfs", "-o", "size=64M,mode=1777,noexec", "tmpfs", folder]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("a mount takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)
        folder.rmdir()


def test_real_tmpfs_is_seen_as_one(tmpfs: Path) -> None:
    place = room.inspect(tmpfs, Path("/proc/self/mountinfo").read_text())
    assert place == Place(tmpfs, True, True, 64 * 2**20, tmpfs.stat().st_dev, in_memory=True)


def test_tree_is_not_built_in_a_tmpfs_without_room_although_the_user_chose_it(tmpfs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["mount", "-o", "remount,exec", tmpfs], check=True)
    monkeypatch.setenv("TMPDIR", str(tmpfs))
    assert room.tree_folder(tmpfs, 0) in [Path("/var/tmp").resolve(), Path("/tmp").resolve()]
    monkeypatch.setattr(room, "candidates", lambda _: [tmpfs])
    with pytest.raises(HostFullError, match=f"{tmpfs}: 64 MB free, 3584 MB needed"):
        room.tree_folder(tmpfs, 2 * GIB)
