"""The files beside a recipe: found, never outside of its folder, and packed so that they travel in a script."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

SIZE_MAX_MB = 16
"""What a recipe may copy in all: it travels in text, through memory. What is larger is for `fetch`."""
_HOME = PurePosixPath("/home/notebook")


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder: where it lies, and its path below the one that was asked for ('.' for that itself)."""

    path: Path
    below: PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Something found, and where it goes in the guest.

    Without a mode, what is executable stays so; without an owner it is root's, or, in the home of the user notebook, theirs.
    """

    found: Sequence[Found]
    to: str
    mode: str | None
    owner: str | None


def find(folder: Path, source: str) -> list[Found] | str:
    """Return a file, or a folder and all in it, sorted; or the reason why it cannot be copied, as `what (what instead)`."""
    try:
        top = folder / source
        if not top.resolve().is_relative_to(folder.resolve()):
            return "lies outside of the recipe's folder (copy it there)"
        if not top.exists():
            return "is not there (write the path of a file or folder beside the recipe)"
        paths = [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', '') or type(error).__name__} (write another path)"
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return f"holds {path.name!r}, neither file nor folder (put the file itself there)"
    return [Found(path, PurePosixPath(path.relative_to(top).as_posix())) for path in paths]


def size_bytes(found: Iterable[Found]) -> int:
    """Return what the files take."""
    return sum(one.path.stat().st_size for one in found if one.path.is_file())


def pack(placed: Iterable[Placed]) -> str:
    """Return a tar archive, compressed and in lines of base64, to be unpacked at `/`; the same for the same files."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for one in placed:
            for entry, content in _entries(one):
                tar.addfile(entry, io.BytesIO(content))
    return base64.encodebytes(buffer.getvalue()).decode()


def _entries(placed: Placed) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    is_file = placed.found[0].path.is_file()
    to = PurePosixPath(placed.to)
    if is_file and placed.to.endswith("/"):
        to /= placed.found[0].path.name
    owner = placed.owner or ("notebook" if to.is_relative_to(_HOME) else "root")
    for parent in reversed(to.parents):
        if parent != _HOME and parent.is_relative_to(_HOME):
            yield _entry(parent, tarfile.DIRTYPE, 0o755, owner), b""
    for one in placed.found:
        target = to / one.below
        if one.path.is_dir():
            yield _entry(target, tarfile.DIRTYPE, 0o755, owner), b""
            continue
        content = one.path.read_bytes()
        mode = int(placed.mode, 8) if placed.mode else 0o755 if one.path.stat().st_mode & 0o100 else 0o644
        entry = _entry(target, tarfile.REGTYPE, mode, owner)
        entry.size = len(content)
        yield entry, content


def _entry(target: PurePosixPath, kind: bytes, mode: int, owner: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(target).lstrip("/"))
    entry.type, entry.mode = kind, mode
    entry.uname, _, group = owner.partition(":")
    entry.gname = group or entry.uname
    return entry
