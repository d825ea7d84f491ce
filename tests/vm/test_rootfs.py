"""The root filesystem of a base, made in a namespace of mmdebstrap from a tar with owners of all kinds."""

from __future__ import annotations

import io
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from clouds.errors import CloudError
from clouds.local.base import rootfs
from clouds.local.base.esp import DISK_MB, ROOT_START_MB
from clouds.local.host.command import environment
from clouds.waiter import until

pytestmark = pytest.mark.vm

WAITING = """
import sys
from pathlib import Path
from clouds.local.base import rootfs
# in short pieces: a signal just before `sleep` starts is handled when it ends
script = rootfs.REMOVE_TREE + "mkdir tree; touch tree/begun; while sleep 0.2; do :; done"
with open("/dev/null", "r+b") as null:
    rootfs.in_namespace(["sh", "-c", script], Path(sys.argv[1]), null, null)
"""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """Give a folder that all users may enter, which pytest's own is not."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Give an empty disk (0600) in a folder that only its owner may enter."""
    disk = tmp_path / "it's closed" / "disk.raw"
    disk.parent.mkdir(mode=0o700)
    with disk.open("wb") as file:
        file.truncate(DISK_MB * 2**20)
    disk.chmod(0o600)
    return disk


def pack(path: Path, entries: dict[str, tuple[int, int, int]]) -> Path:
    """Pack empty files, folders where a name ends with a slash, of given mode, user and group."""
    with tarfile.open(path, "w") as tar:
        for name, (mode, user, group) in entries.items():
            entry = tarfile.TarInfo(name)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            entry.mode, entry.uid, entry.gid = mode, user, group
            tar.addfile(entry, io.BytesIO())
    path.chmod(0o600)
    return path


def listed(raw: Path, folder: str) -> dict[str, tuple[int, int, int]]:
    argv = ["debugfs", "-R", f"ls -p {folder}", f"{raw}?offset={ROOT_START_MB * 2**20}"]
    printed = subprocess.run(argv, check=True, capture_output=True, text=True, env=environment()).stdout
    found = re.findall(r"^/\d+/\d{2}(\d{4})/(\d+)/(\d+)/([^/]+)/", printed, re.MULTILINE)
    return {name: (int(mode, 8), int(user), int(group)) for mode, user, group, name in found}


def test_owners_and_modes_are_kept_and_nothing_is_left(raw: Path, temporary: Path, tmp_path: Path) -> None:
    entries = {"./": (0o755, 0, 0), "./dev/": (0o755, 0, 0), "./dev/null": (0o666, 0, 0), "./etc/": (0o755, 0, 0)}
    files = {"shadow": (0o640, 0, 42), "su": (0o4755, 0, 0), "mail": (0o2775, 1000, 8), "nobody": (0o600, 65534, 65534)}
    tar = pack(tmp_path / "tree.tar", entries | {f"./etc/{name}": found for name, found in files.items()})
    rootfs.fill_from_tar(tar, raw, temporary)
    assert listed(raw, "/")["."] == (0o755, 0, 0)
    assert set(listed(raw, "/dev")) == {".", ".."}
    assert files.items() <= listed(raw, "/etc").items()
    assert list(temporary.iterdir()) == []
    assert (raw.stat().st_mode & 0o777, raw.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_what_fails_is_reported_with_its_words_and_nothing_is_left(raw: Path, temporary: Path, tmp_path: Path) -> None:
    (tmp_path / "tree.tar").write_text("no tar at all" * 1000)
    with pytest.raises(CloudError, match=r"tar and mke2fs: .*This does not look like a tar archive"):
        rootfs.fill_from_tar(tmp_path / "tree.tar", raw, temporary)
    assert list(temporary.iterdir()) == []
    assert raw.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_tree_is_removed_in_the_namespace_when_the_build_is_interrupted_or_killed(temporary: Path, signum: signal.Signals) -> None:
    temporary.chmod(0o777)
    with subprocess.Popen([sys.executable, "-c", WAITING, temporary], stderr=subprocess.DEVNULL) as process:
        until((temporary / "tree" / "begun").exists, what="the tree", timeout_s=60)
        process.send_signal(signum)
        process.wait(timeout=60)
    until(lambda: not (temporary / "tree").exists(), what="removal of the tree", timeout_s=60)
