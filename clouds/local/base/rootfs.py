"""Create the root filesystem of a base from the Debian tree that mmdebstrap built.

Without root this runs in a namespace that mmdebstrap creates: Ubuntu's AppArmor profiles permit mmdebstrap a namespace with
all rights, but not `unshare`. https://github.com/rootless-containers/rootlesskit/issues/494 (unshare),
https://gitlab.com/apparmor/apparmor/-/blob/master/profiles/apparmor.d/mmdebstrap (mmdebstrap).
Root of that namespace is not the caller, so it cannot open our files by path. It gets the tree on standard input, the disk
as an open file, and the folder to unpack in as its working directory.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from clouds.local.base.esp import ROOT_LABEL, ROOT_START_MB
from clouds.local.host.command import environment, failure, free_bytes, run
from clouds.local.host.namespaces import NAMESPACE, words

FOLDER = "bakehouse-tree-"
"""The prefix of the folders in which trees are unpacked."""

_DISK_S = 600
_TIMED_OUT = (124, 137)
"""Exit statuses of timeout(1) after its limit: 124, or 137 if it had to kill the command."""

_FILESYSTEM = "lazy_itable_init=1,lazy_journal_init=1"
_KEPT = ("PATH", "LC_ALL")
REMOVE_TREE = """trap '' PIPE
trap 'trap "" HUP INT TERM; rm -rf tree' EXIT
trap 'trap "" HUP INT TERM; exit 1' HUP INT TERM
"""
"""The tree belongs to users of the namespace, so only the namespace can remove it, even after we are killed. Then nobody reads
the shell's output (that its child was terminated), and SIGPIPE would end the shell before it has removed the tree. A second
signal, which timeout(1) sends to the whole group after the first, would end `rm`."""

_UNPACK = "mkdir tree && tar --extract --file - --directory tree --exclude './dev/*' && \"$@\""


def fill_from_folder(tree: Path, raw: Path) -> None:
    """Create the root filesystem inside a raw disk from a folder whose files have their final owners; needs root."""
    run(_mke2fs(str(tree), str(raw), _size_kb(raw)), timeout_s=_DISK_S)


def fill_from_tar(tar: Path, raw: Path, temporary: Path) -> None:
    """Create the root filesystem inside a raw disk from a tar; `temporary` is a folder that all users may enter.

    Raises HostFullError if a disk is full, otherwise CloudError with the last lines of the program that failed.
    """
    with _shared_folder(temporary) as work, tar.open("rb") as packed, _opened_to_all(raw) as disk:
        command = ["sh", "-c", REMOVE_TREE + _UNPACK, "sh", *_mke2fs("tree", f"/proc/self/fd/{disk.fileno()}", _size_kb(raw))]
        status, said = in_namespace(command, work, packed, disk)
    if status:
        late = f"did not finish within {_DISK_S} s" if status in _TIMED_OUT else ""
        raise failure("tar and mke2fs", late or words(said), cwd=min(temporary, raw.parent, key=free_bytes))


def _size_kb(raw: Path) -> int:
    """Return the size in KiB of the root filesystem of a disk: up to the last MiB."""
    return raw.stat().st_size // 1024 - (ROOT_START_MB + 1) * 1024


def _mke2fs(tree: str, disk: str, size_kb: int) -> list[str]:
    options = f"{_FILESYSTEM},offset={ROOT_START_MB * 2**20},root_owner=0:0"
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-m", "1", "-J", "size=32", "-E", options]
    return [*mke2fs, "-d", tree, disk, f"{size_kb}k"]


def in_namespace(command: Sequence[str], work: Path, stdin: BinaryIO, kept: BinaryIO) -> tuple[int, str]:
    """Run a command as root of a namespace in a folder, with an inherited open file; return (exit status, stderr).

    If we are killed or interrupted, the command is terminated, and its traps run before this returns.
    """
    guard = ["setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=30", str(_DISK_S)]
    variables = {key: value for key, value in environment().items() if key in _KEPT}  # others may name files in a closed home
    with subprocess.Popen(
        [*guard, *NAMESPACE, *command],
        stdin=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        env=variables,
        cwd=work,
        pass_fds=[kept.fileno()],
        process_group=0,
    ) as process:
        try:
            return _ended(process)
        except BaseException:
            os.killpg(process.pid, signal.SIGTERM)
            _ended(process)
            raise


def _ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait until every process that writes to the pipe has ended: `timeout` ends before its command does."""
    _, said = process.communicate()
    return process.returncode, said


@contextmanager
def _shared_folder(temporary: Path) -> Iterator[Path]:
    """Yield a world-writable folder inside one that only we may enter."""
    closed = Path(tempfile.mkdtemp(prefix=FOLDER, dir=temporary))
    try:
        work = closed / "work"
        work.mkdir()
        work.chmod(0o777)
        yield work
    finally:
        shutil.rmtree(closed, ignore_errors=True)


@contextmanager
def _opened_to_all(raw: Path) -> Iterator[BinaryIO]:
    """Yield an open file that another user can reopen by its descriptor; its folder is closed to all others (0700)."""
    mode, folder = raw.stat().st_mode & 0o777, raw.parent.stat().st_mode & 0o777
    raw.parent.chmod(0o700)
    raw.chmod(0o666)
    try:
        with raw.open("r+b") as file:
            yield file
    finally:
        raw.chmod(mode)
        raw.parent.chmod(folder)
