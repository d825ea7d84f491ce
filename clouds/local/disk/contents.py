"""Read the files of an image's disk from outside with debugfs, without mounting and without root."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from clouds.local.base.esp import ROOT_START_MB, partition
from clouds.local.host.command import run

_CONVERT_S = 600
_DEBUGFS_S = 300
_ROOT_INODE = 2
_ECHO = "debugfs: "


class Entry(NamedTuple):
    """A directory entry."""

    inode: int
    mode: int
    name: str
    size: int


class DiskContents:
    """The root filesystem of a disk, copied as a sparse raw file into `scratch`, which the caller removes."""

    def __init__(self, disk: Path, scratch: Path) -> None:
        self._scratch = scratch
        self._raw = scratch / "root.raw"
        run(["qemu-img", "convert", "-O", "raw", partition(disk, ROOT_START_MB), str(self._raw)], timeout_s=_CONVERT_S)

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of every regular file, by absolute path."""
        return {path: entry.size for path, entry in self._files.items()}

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return up to `limit_bytes` of each of these files, by path; paths that do not exist are left out."""
        wanted = {path: self._scratch / f"file-{number}" for number, path in enumerate(paths) if path in self._files}
        self._debugfs([f"dump <{self._files[path].inode}> {copy.name}" for path, copy in wanted.items()])
        contents = {}
        for path, copy in wanted.items():
            with copy.open("rb") as file:
                contents[path] = file.read(limit_bytes)
            copy.unlink()
        return contents

    @cached_property
    def _files(self) -> dict[str, Entry]:
        """All regular files by path; runs debugfs once per folder level."""
        found: dict[str, Entry] = {}
        level = {"": _ROOT_INODE}
        while level:
            printed = self._debugfs([f"ls -p <{inode}>" for inode in level.values()])
            below = {}
            for folder, entries in zip(level, listings(printed), strict=True):
                for entry in entries:
                    path = f"{folder}/{entry.name}"
                    if stat.S_ISDIR(entry.mode):
                        below[path] = entry.inode
                    elif stat.S_ISREG(entry.mode):
                        found[path] = entry
            level = below
        return found

    def _debugfs(self, commands: Sequence[str]) -> str:
        """Run debugfs commands in the scratch folder with relative names: debugfs cannot quote a path with a double quote."""
        script = self._scratch / "commands"
        script.write_text("".join(f"{command}\n" for command in commands), encoding="utf-8")
        return run(["debugfs", "-f", script.name, self._raw.name], timeout_s=_DEBUGFS_S, cwd=self._scratch)


def listings(printed: str) -> Iterator[list[Entry]]:
    """Yield the entries of each `ls -p` in the output of debugfs, without `.` and `..`.

    A line is /inode/mode/user/group/name/size/; folders have no size. debugfs echoes each command before its output.
    """
    for listing in printed.split(f"{_ECHO}ls -p ")[1:]:
        yield [entry for line in listing.splitlines()[1:] if (entry := _entry(line))]


def _entry(line: str) -> Entry | None:
    words = line.split("/")
    if len(words) != 8 or words[5] in (".", ".."):
        return None
    return Entry(int(words[1]), int(words[2], 8), words[5], int(words[6] or 0))
