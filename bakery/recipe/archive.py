"""Find the files next to a recipe, only inside its folder, and pack them into archives for the builder.

A file is read in pieces, twice: for the digest of its archive when a script is rendered, and when the archive is sent.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeGuard

from bakery.errors import RecipeError

MIB = 2**20
FILE_MAX_BYTES = 1024 * MIB
"""The largest file that a recipe may copy."""
TOTAL_MAX_BYTES = 4096 * MIB
"""What a recipe may copy in all: it is sent from this computer at each bake. What is larger is for `fetch`."""
_HOME = PurePosixPath("/home/notebook")


@dataclass(frozen=True, slots=True)
class Found:
    """A file or folder: its path, and its path relative to the requested one ('.' for that itself)."""

    path: Path
    below: PurePosixPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Files or folders, and their destination in the guest.

    Default mode: executable files stay executable. Default owner: root, or notebook in its home folder.
    """

    found: Sequence[Found]
    to: str
    mode: str | None
    owner: str | None


def is_source(value: object) -> TypeGuard[str]:
    """Return whether a value is a valid path to look for; its type reports an invalid one."""
    return isinstance(value, str) and value.isprintable() and value[:1] not in ("", "/") and ".." not in value.split("/")


def find(folder: Path, source: str) -> list[Found] | str:
    """Return a file, or a folder with its content, sorted; or why it cannot be copied, as `what (what to write instead)`."""
    try:
        top = folder / source
        if not top.resolve().is_relative_to(folder.resolve()):
            return "is outside the recipe's folder (copy it there)"
        if not top.exists():
            return "does not exist (write the path of a file or folder next to the recipe)"
        paths = [top, *sorted(top.rglob("*"))] if top.is_dir() else [top]
    except (OSError, ValueError, RuntimeError) as error:
        return f"cannot be read: {getattr(error, 'strerror', '') or type(error).__name__} (write another path)"
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return f"contains {path.name!r}, which is neither a file nor a folder (put the file itself there)"
    return [Found(path, PurePosixPath(path.relative_to(top).as_posix())) for path in paths]


def sizes_bytes(found: Iterable[Found]) -> dict[Path, int]:
    """Return the size of each file."""
    return {one.path: one.path.stat().st_size for one in found if one.path.is_file()}


@dataclass(frozen=True, slots=True)
class Archive:
    """A tar archive of files, to be unpacked at `/`, which is made when it is written; `sha256` and `size_bytes` are its own.

    The same files make the same archive.
    """

    placed: tuple[Placed, ...]
    sha256: str
    size_bytes: int

    def write(self, write: Callable[[bytes], object]) -> None:
        """Hand over the archive, piece by piece. RecipeError: a file is not as it was when the digest was taken."""
        counter = _Counter(write)
        _write(self.placed, counter)
        if counter.digest.hexdigest() != self.sha256:
            raise RecipeError(["a file beside the recipe has changed since the bake began (bake again)"])


def archive(placed: Iterable[Placed]) -> Archive:
    """Return the archive of these files, which are read once for its digest. RecipeError: one cannot be read."""
    files, counter = tuple(placed), _Counter(lambda piece: None)
    _write(files, counter)
    return Archive(files, counter.digest.hexdigest(), counter.size_bytes)


class _Counter(io.RawIOBase):
    """A file to write to that hands all on, and keeps its digest and size."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        super().__init__()
        self.digest, self.size_bytes, self._write = hashlib.sha256(), 0, write

    def writable(self) -> bool:
        return True

    def write(self, piece: bytes) -> int:  # type: ignore[override]
        self.digest.update(piece)
        self.size_bytes += len(piece)
        self._write(piece)
        return len(piece)


def _write(placed: Iterable[Placed], sink: _Counter) -> None:
    try:
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for one in placed:
                for entry, source in _entries(one):
                    with ExitStack() as stack:
                        tar.addfile(entry, stack.enter_context(source.open("rb")) if source else None)
    except OSError as error:
        if error.errno and not error.filename:  # of the sink: its disk is full, say
            raise
        what = str(error) if error.filename else "a file beside the recipe has become shorter"
        raise RecipeError([f"{what}: it has changed since the bake began (bake again)"]) from error


def _entries(placed: Placed) -> Iterator[tuple[tarfile.TarInfo, Path | None]]:
    """Yield the entries of an archive, each with the file that holds its content."""
    is_file = placed.found[0].path.is_file()
    to = PurePosixPath(placed.to)
    if is_file and placed.to.endswith("/"):
        to /= placed.found[0].path.name
    owner = placed.owner or ("notebook" if to.is_relative_to(_HOME) else "root")
    for parent in reversed(to.parents):
        if parent != _HOME and parent.is_relative_to(_HOME):
            yield _entry(parent, tarfile.DIRTYPE, 0o755, owner), None
    for one in placed.found:
        target = to / one.below
        if one.path.is_dir():
            yield _entry(target, tarfile.DIRTYPE, 0o755, owner), None
            continue
        status = one.path.stat()
        mode = int(placed.mode, 8) if placed.mode else 0o755 if status.st_mode & 0o100 else 0o644
        entry = _entry(target, tarfile.REGTYPE, mode, owner)
        entry.size = status.st_size
        yield entry, one.path


def _entry(target: PurePosixPath, kind: bytes, mode: int, owner: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(str(target).lstrip("/"))
    entry.type, entry.mode = kind, mode
    entry.uname, _, group = owner.partition(":")
    entry.gname = group or entry.uname
    return entry
