"""Choose the folder in which mmdebstrap builds a Debian tree without root.

Every user must be able to enter the folder, since root of mmdebstrap's namespace is another user. A folder on a disk is
preferred: /tmp is a tmpfs on Debian 13, Ubuntu 24.10 and Fedora, so its files use memory.
Sources: mmdebstrap(1), "TMPDIR"; https://www.debian.org/releases/trixie/release-notes/issues.html, 5.1.6;
https://lists.ubuntu.com/archives/ubuntu-devel/2025-May/043353.html.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clouds.errors import HostFullError
from clouds.local.host.command import free_bytes
from clouds.local.host.files import read_text

TREE_BYTES = 1536 * 2**20
"""Space for a tree and the packages that apt downloads into it; measured: 580 MB in November 2026."""

MEMORY_BYTES = 2**30
"""Memory for a build in addition to a tree in memory. A guess: apt, dpkg and the page cache of the disk."""

_MIB = 2**20
_IN_MEMORY = ("tmpfs", "ramfs")


@dataclass(frozen=True, slots=True)
class Place:
    """The facts that decide whether a tree can be built in a folder; `device` is `st_dev`."""

    folder: Path
    is_open: bool
    is_noexec: bool = False
    free_bytes: int = 0
    device: int = 0
    in_memory: bool = False


def tree_folder(scratch: Path, scratch_bytes: int) -> Path:
    """Return the first folder with room for a tree while the scratch folder grows by `scratch_bytes`.

    Raises HostFullError with the problem of each folder.
    """
    mounts, available = read_text(Path("/proc/self/mountinfo")), available_memory(read_text(Path("/proc/meminfo")))
    places = [inspect(folder, mounts) for folder in candidates(scratch)]
    return choose(places, available, shared={scratch.stat().st_dev: scratch_bytes})


def candidates(scratch: Path) -> list[Path]:
    """Return the folders to try, best first: TMPDIR, the scratch folder and its parents in the store, /var/tmp, /tmp."""
    chosen = os.environ.get("TMPDIR")
    own = [Path(chosen).absolute()] if chosen else []
    found = [*own, scratch, *list(scratch.parents)[:2], Path("/var/tmp"), Path("/tmp")]  # noqa: S108
    return list(dict.fromkeys(path.resolve() for path in found))


def inspect(folder: Path, mounts: str) -> Place:
    """Return the facts about a folder, given the text of /proc/self/mountinfo."""
    if not _is_open(folder):
        return Place(folder, is_open=False)
    device = folder.stat().st_dev
    noexec = bool(os.statvfs(folder).f_flag & os.ST_NOEXEC)
    return Place(folder, True, noexec, free_bytes(folder), device, filesystem(device, mounts) in _IN_MEMORY)


def choose(places: Sequence[Place], available_bytes: int, shared: dict[int, int]) -> Path:
    """Return the first suitable folder. `shared`: bytes that the build needs for other files, by device.

    Raises HostFullError with the problem of each folder.
    """
    found = {place.folder: objection(place, available_bytes, shared.get(place.device, 0)) for place in places}
    for folder, problem in found.items():
        if not problem:
            return folder
    told = "; ".join(f"{folder}: {problem}" for folder, problem in found.items())
    raise HostFullError(
        f"no folder for the tree of a base ({TREE_BYTES // _MIB} MB): {told}",
        next_step="Free some space in /var/tmp, or set TMPDIR to a folder with enough space that all users may enter.",
    )


def objection(place: Place, available_bytes: int, shared_bytes: int) -> str:
    """Return why a tree cannot be built in a place, with numbers; "" if it can. `available_bytes`: free memory."""
    needed = TREE_BYTES + shared_bytes
    if not place.is_open:
        return "not writable for you, or not accessible for other users"
    if '"' in str(place.folder):
        return "apt does not support the double quote in its path"
    if place.is_noexec:
        return "mounted noexec"
    if place.free_bytes < needed:
        return f"{place.free_bytes // _MIB} MB free, {needed // _MIB} MB needed"
    if place.in_memory and available_bytes < needed + MEMORY_BYTES:
        wanted = (needed + MEMORY_BYTES) // _MIB
        return f"a tmpfs; {available_bytes // _MIB} MB of memory available, {wanted} MB needed"
    return ""


def filesystem(device: int, mounts: str) -> str:
    """Return the type of the filesystem on a device (`st_dev`); "" if mountinfo does not list it.

    Fields: proc_pid_mountinfo(5). For types other than tmpfs the number may differ from that of stat (btrfs).
    """
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if fields.split()[2:3] == [number]:
            return rest.split(" ")[0]
    return ""


def available_memory(meminfo: str) -> int:
    """Return the available memory in bytes, from the text of /proc/meminfo; 0 if it is not listed."""
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return 0


def _is_open(folder: Path) -> bool:
    """Return whether a folder is writable for us and every user may enter it."""
    try:
        open_to_all = all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents))
    except OSError:
        return False
    return open_to_all and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
