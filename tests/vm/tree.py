"""All that is on the root filesystem of an image: mode, owner and content of each path, read from outside by debugfs."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from clouds.local.base.esp import ROOT_START_MB, partition

_ENTRY = re.compile(r"^/\d+/([0-7]+)/(\d+)/(\d+)/([^/]+)/\d*/$")
"""A line of `ls -p`: /inode/mode/user/group/name/size/."""


class Found(NamedTuple):
    """What is at a path: mode in octal, user and group as numbers; the digest of a file, or where a link leads."""

    mode: str
    user: int
    group: int
    content: str


def read_tree(disk: Path, scratch: Path) -> dict[str, Found]:
    """Return all that is on a disk, by absolute path. `scratch` is an empty folder, in which the whole tree is laid out.

    The files there have no owners but us: that is left to debugfs's own listing.
    """
    raw, tree = scratch / "root.raw", scratch / "tree"
    subprocess.run(["qemu-img", "convert", "-O", "raw", partition(disk, ROOT_START_MB), str(raw)], check=True)
    tree.mkdir()
    _debugfs(raw, [f'rdump / "{tree}"'])
    folders = [path for path in [tree, *tree.rglob("*")] if path.is_dir() and not path.is_symlink()]
    commands = [f'ls -p "/{folder.relative_to(tree)}"' for folder in folders]
    printed = _debugfs(raw, commands).split("debugfs: ls -p ")[1:]
    assert len(printed) == len(folders)
    return dict(found for folder, lines in zip(folders, printed, strict=True) for found in _entries(tree, folder, lines))


def differences(
    one: Mapping[str, Found], other: Mapping[str, Found], volatile: Iterable[str] = ()
) -> dict[str, tuple[object, object]]:
    """Return what is at each path that is not the same in both, less the paths that match one of the expressions in whole."""
    skipped = re.compile("|".join(volatile) or "(?!)")
    paths = sorted(one.keys() | other.keys())
    return {
        path: (one.get(path), other.get(path)) for path in paths if one.get(path) != other.get(path) and not skipped.fullmatch(path)
    }


def _entries(tree: Path, folder: Path, printed: str) -> Iterator[tuple[str, Found]]:
    for line in printed.splitlines()[1:]:
        entry = _ENTRY.match(line)
        if entry and entry[4] not in (".", ".."):
            path = folder / entry[4]
            yield f"/{path.relative_to(tree)}", Found(entry[1], int(entry[2]), int(entry[3]), _content(path))


def _content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _debugfs(raw: Path, commands: list[str]) -> str:
    script = "".join(f"{command}\n" for command in commands)
    return subprocess.run(["debugfs", "-f", "-", str(raw)], input=script, capture_output=True, text=True, check=True).stdout
