"""Both ends of `copy`: send a file or a folder as one stream, or receive one.

This module runs on this computer and, as text, on the machine (`serve`), so it imports nothing of ours and little else. Messages
are lines of JSON, and names in them are bytes decoded as Latin-1, since a file name may have any encoding:

    sender                        receiver
      offer: all entries  ------>   finds a place, creates folders
                          <------ wanted: which files, and from which byte on
      contents, in pieces ------>   each file under a temporary name, renamed when it is complete
                          <------ done: what could not be written

A file whose size and time are those of the offer is not wanted again. A temporary name is derived from name, size and time, so
an interrupted large file continues where it ended.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

Entry = tuple[str, str, int, int, int, str]
"""Name below the root ("" is the root), kind (d, f or l), mode, time in ns, size in bytes, target of a link."""
Count = Callable[[int, int], None]
"""Is called with the number of files, and of bytes, that were transferred."""

_PIECE = 1 << 18
_SLACK = 1 << 24
"""How many bytes beyond its offered size are read of a file: those of /proc have the size 0; a log must not be followed forever."""
_KEEP = 1 << 23
"""The size in bytes from which an incomplete file is kept for the next attempt."""
_HEAD = 5
_DATA, _HOLE, _END, _CHANGED, _FAILED = b"d", b"h", b"e", b"c", b"x"
_ZEROS = bytes(_PIECE)
_SPECIAL = {stat.S_IFIFO: "FIFO", stat.S_IFSOCK: "socket", stat.S_IFBLK: "device", stat.S_IFCHR: "device"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class TreeError(Exception):
    """The copy cannot be done, or the connection has ended; the message is a fact for the user."""


def send(
    source: bytes, read: BinaryIO, write: BinaryIO, count: Count, start: Count = lambda _files, _bytes: None
) -> dict[str, Any]:
    """Send a file or folder; return the report: names that were left out, failed or changed, and the number of files.

    `start` is called with the number of files and bytes that the receiver wants.
    """
    try:
        offer = survey(source)
    except OSError as error:
        say(write, {"error": f"{shown(source)}: {error.strerror}"})
        raise TreeError(f"{shown(source)}: {error.strerror}") from None
    say(write, offer)
    source = os.path.realpath(source)  # a link that was named is followed
    entries, wanted = offer["entries"], hear(read)["wanted"]
    start(len(wanted), sum(entries[index][4] - offset for index, offset in wanted))
    try:
        for index, offset in wanted:
            _send_file(_inside(source, entries[index][0]), entries[index], offset, write, count)
            count(1, 0)
        write.flush()
    except BrokenPipeError:
        pass  # the receiver has ended, and said why
    return {**hear(read), "left_out": offer["left_out"]}


def survey(source: bytes) -> dict[str, Any]:
    """Return the offer of a file or folder; a link that the user names is followed, links in the folder are not."""
    base = os.path.basename(source.rstrip(b"/"))
    root = _entry("", source, os.stat(source))
    if not root[1]:
        raise OSError(errno.EINVAL, "neither a file nor a folder")
    entries, left_out, failed = [root], [], []
    folders = [""] if root[1] == "d" else []
    while folders:
        folder = folders.pop()
        try:
            names = sorted(os.listdir(_inside(source, folder)))
        except OSError as error:
            failed.append([folder, str(error.strerror)])
            continue
        for name in (f"{folder}/{_text(one)}".lstrip("/") for one in names):
            try:
                entry = _entry(name, path := _inside(source, name), status := os.lstat(path))
            except FileNotFoundError:
                continue  # removed meanwhile
            if not entry[1]:
                left_out.append([name, _SPECIAL.get(stat.S_IFMT(status.st_mode), "special file")])
                continue
            entries.append(entry)
            if entry[1] == "d":
                folders.append(name)
    base = b"" if base in (b".", b"..") else base
    return {"base": _text(base), "entries": entries, "left_out": left_out, "failed": failed}


def _entry(name: str, path: bytes, status: os.stat_result) -> Entry:
    kind = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l"}.get(stat.S_IFMT(status.st_mode), "")
    target = _text(os.readlink(path)) if kind == "l" else ""
    return name, kind, stat.S_IMODE(status.st_mode), status.st_mtime_ns, status.st_size if kind == "f" else 0, target


def _send_file(path: bytes, entry: Entry, offset: int, write: BinaryIO, count: Count) -> None:
    """Send a file from a byte on. Should it be a link or a FIFO by now, it is neither followed nor waited for."""
    left = entry[4] - offset + _SLACK
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "is no longer a file")
            file.seek(offset)
            while left > 0 and (piece := file.read(min(_PIECE, left))):
                is_hole = piece == _ZEROS
                _put(write, _HOLE if is_hole else _DATA, b"" if is_hole else piece)
                count(0, len(piece))
                left -= len(piece)
            now = os.fstat(descriptor)
            _put(write, _END if (now.st_size, now.st_mtime_ns) == (entry[4], entry[3]) else _CHANGED)
    except BrokenPipeError:
        raise
    except OSError as error:
        _put(write, _FAILED, str(error.strerror).encode())


def receive(
    destination: bytes, read: BinaryIO, write: BinaryIO, count: Count, start: Count = lambda _f, _b: None
) -> dict[str, Any]:
    """Receive what the other end sends, and place it as `cp` does; return the report as `send` does.

    In it a root that cannot be written is named by its path here; one that cannot be read, or has changed, is "".

    Modes (of files without setuid and setgid) and times are kept, but not those of an existing folder into which the contents of
    another one go (`copy . NAME:`). Whatever is replaced is replaced as a whole, and a link is never written through.
    """
    offer = hear(read)
    try:
        root = _place(destination, offer["base"], is_folder=offer["entries"][0][1] == "d")
        keeps = os.path.isdir(root) and not offer["base"]
        report: dict[str, Any] = {"failed": list(offer["failed"]), "changed": [], "files": 0, "left_out": offer["left_out"]}
        entries, new = _with_folders(root, offer["entries"], report["failed"])
        wanted = [(index, offset) for index, entry in entries if entry[1] == "f" and (offset := _offset(root, entry, new)) >= 0]
        say(write, {"wanted": wanted})
        start(len(wanted), sum(offer["entries"][index][4] - offset for index, offset in wanted))
        for index, offset in wanted:
            report["files"] += _receive_file(root, offer["entries"][index], offset, read, report, count)
            count(1, 0)
        received = {index for index, _ in wanted}
        _finish(root, [entry for index, entry in entries if (entry[0] or not keeps) and index not in received], report["failed"])
    except (TreeError, OSError) as error:
        reason = str(error) if isinstance(error, TreeError) else f"{shown(error.filename or destination)}: {error.strerror}"
        say(write, {"error": reason})
        raise TreeError(reason) from None
    say(write, report)
    return report


def _place(destination: bytes, base: str, *, is_folder: bool) -> bytes:
    """Return where the root goes: into an existing folder under its own name, else under the name of the destination."""
    target = os.path.join(destination, _bytes(base)) if os.path.isdir(destination) and base else destination
    if is_folder and os.path.lexists(target) and not os.path.isdir(target):
        raise TreeError(f"{shown(target)}: exists and is not a folder")
    if not is_folder and os.path.isdir(target):
        raise TreeError(f"{shown(target)}: is a folder")
    if not is_folder and (target.endswith(b"/") or (os.path.exists(target) and not os.path.isfile(target))):
        raise TreeError(f"{shown(target)}: " + ("is neither a file nor a folder" if os.path.exists(target) else "no such folder"))
    target = os.path.realpath(target) if os.path.islink(target.rstrip(b"/")) else target
    if not os.path.isdir(parent := os.path.dirname(target.rstrip(b"/")) or b"."):
        raise TreeError(f"{shown(parent)}: no such folder")
    return target


def _with_folders(root: bytes, entries: list[Entry], failed: list[list[str]]) -> tuple[list[tuple[int, Entry]], set[str]]:
    """Create the folders; return the entries, with their numbers, whose folder exists, and the folders that did not exist before.

    The names come from the other end.
    """
    folders, usable, new = set(), [], set()
    for index, entry in enumerate(entries):
        name, kind = entry[0], entry[1]
        above, _, last = name.rpartition("/")
        if name and (last in ("", ".", "..") or "\0" in name or above not in folders):
            if above in folders:
                failed.append([name, "not a name of a file"])
            continue
        if kind == "d":
            try:
                if _make_folder(_inside(root, name), is_root=not name):
                    new.add(name)
            except OSError as error:
                if error.errno in _FULL or not name:
                    raise
                failed.append([name, str(error.strerror)])
                continue
            folders.add(name)
        usable.append((index, entry))
    return usable, new


def _make_folder(path: bytes, *, is_root: bool) -> bool:
    """Create a folder, or make an existing one writable for its owner until `_finish`; return whether it is new."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        status = os.stat(path) if is_root else os.lstat(path)
        if not stat.S_ISDIR(status.st_mode):
            raise OSError(errno.ENOTDIR, "a file or a link is in the place of a folder") from None
        if not is_root and status.st_mode & 0o700 != 0o700:
            os.chmod(path, stat.S_IMODE(status.st_mode) | 0o700)
        return False
    return True


def _offset(root: bytes, entry: Entry, new: set[str]) -> int:
    """Return from which byte on a file is needed; -1 if it is there already. A folder that is new has nothing."""
    if entry[0].rpartition("/")[0] in new:
        return 0
    try:
        status = os.lstat(_inside(root, entry[0]))
        if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (entry[4], entry[3]):
            return -1
    except OSError:
        pass
    try:
        partial = os.lstat(_partial(root, entry))
        return partial.st_size if stat.S_ISREG(partial.st_mode) and partial.st_size <= entry[4] else 0
    except OSError:
        return 0


def _partial(root: bytes, entry: Entry) -> bytes:
    key = hashlib.sha256(repr((_text(root), entry[0], entry[4], entry[3])).encode()).hexdigest()[:16]
    return os.path.join(os.path.dirname(_inside(root, entry[0])), f".bakehouse-{key}.part".encode())


def _receive_file(root: bytes, entry: Entry, offset: int, read: BinaryIO, report: dict[str, Any], count: Count) -> bool:
    """Receive a file; return whether it is in place. If it alone cannot be written, that is reported, and its content skipped."""
    partial, reason = _partial(root, entry), ""
    try:
        try:
            file = _open_partial(partial, offset)
        except OSError as error:
            file, reason = open(os.devnull, "wb"), str(error.strerror)  # noqa: SIM115
        with file:
            end, said = _take_pieces(read, file, count)
            file.flush()
            reason = reason or said or _complete(file.fileno(), entry)
        reason = reason or _put_in_place(partial, _inside(root, entry[0]))
    except BaseException as error:
        _discard(partial, keeps=entry[4] >= _KEEP and not isinstance(error, OSError))
        raise
    if reason:
        _discard(partial)
        report["failed"].append([entry[0] if reason == said else entry[0] or _text(root), reason])
    elif end == _CHANGED:
        report["changed"].append(entry[0])
    return not reason


def _open_partial(path: bytes, offset: int) -> BinaryIO:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | (0 if offset else os.O_TRUNC)
    file = open(os.open(path, flags, 0o600), "wb")  # noqa: SIM115
    if offset:
        file.truncate(offset)
        file.seek(offset)
    return file


def _take_pieces(read: BinaryIO, file: BinaryIO, count: Count) -> tuple[bytes, str]:
    """Write the content of a file; return how it ended, and why the sender could not read it ("" if it could).

    Pieces of zeros become holes, so that a sparse file does not fill the disk.
    """
    ends_in_hole = False
    while True:
        head = _exactly(read, _HEAD)
        kind, length = head[:1], int.from_bytes(head[1:], "big")
        piece = _exactly(read, length)
        if kind == _HOLE:
            file.seek(_PIECE, os.SEEK_CUR)
        elif kind == _DATA:
            file.write(piece)
        else:
            break
        ends_in_hole = kind == _HOLE
        count(0, length or _PIECE)
    if ends_in_hole and stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # not where the content is discarded
        file.truncate()  # to the present position
    return kind, piece.decode("utf-8", "replace") if kind == _FAILED else ""


def _complete(file: int, entry: Entry) -> str:
    """Give a complete file (its descriptor) its mode and time; return why that failed, or ""."""
    try:
        os.fchmod(file, entry[2] & 0o777)
        os.utime(file, ns=(entry[3], entry[3]))
    except OSError as error:
        return str(error.strerror)
    return ""


def _put_in_place(partial: bytes, path: bytes) -> str:
    """Give a complete file its name; return why that failed, or ""."""
    try:
        if not stat.S_ISREG(mode := os.lstat(path).st_mode) and not stat.S_ISLNK(mode):
            return "a folder or a special file is in the place of a file"
    except OSError:
        pass  # there is nothing
    try:
        os.replace(partial, path)
    except OSError as error:
        return str(error.strerror)
    return ""


def _finish(root: bytes, entries: list[Entry], failed: list[list[str]]) -> None:
    """Create the links, after all files; then set the modes of files that were there already, and modes and times of folders."""
    for entry in reversed(entries):
        path = _inside(root, entry[0])
        try:
            if entry[1] == "l":
                _make_link(path, entry)
            elif entry[1] == "d":
                os.chmod(path, entry[2])
                os.utime(path, ns=(entry[3], entry[3]))
            elif stat.S_ISREG((status := os.lstat(path)).st_mode) and status.st_mode & 0o777 != entry[2] & 0o777:
                os.chmod(path, entry[2] & 0o777)
        except FileNotFoundError:
            continue  # it failed before, and is reported
        except OSError as error:
            failed.append([entry[0] or _text(root), str(error.strerror)])


def _make_link(path: bytes, entry: Entry) -> None:
    target, partial = _bytes(entry[5]), path + b".bakehouse-link"
    if os.path.islink(path) and os.readlink(path) == target:
        return
    if os.path.lexists(path) and not os.path.islink(path) and not os.path.isfile(path):
        raise OSError(errno.EEXIST, "a folder or a special file is in the place of a link")
    _discard(partial)
    os.symlink(target, partial)
    os.utime(partial, ns=(entry[3], entry[3]), follow_symlinks=False)
    os.replace(partial, path)


def _discard(path: bytes, *, keeps: bool = False) -> None:
    if not keeps and os.path.lexists(path):
        os.unlink(path)


def serve() -> None:
    """Be the machine's end: read an order from standard input, and follow it. The first line says where our output begins."""
    read, write = sys.stdin.buffer, sys.stdout.buffer
    write.write(f"\n{sys.argv[1]}\n".encode())
    write.flush()
    verb, path = hear(read)["order"]
    try:
        (send if verb == "send" else receive)(os.path.expanduser(_bytes(path)) or b".", read, write, lambda _files, _bytes: None)
    except TreeError:
        sys.exit(1)  # the other end knows


def say(write: BinaryIO, message: dict[str, Any]) -> None:
    """Write a message, unless the other end has gone: then there is nobody to read it."""
    try:
        write.write(json.dumps(message).encode() + b"\n")
        write.flush()
    except BrokenPipeError:
        pass


def hear(read: BinaryIO) -> dict[str, Any]:
    """Return the next message. TreeError: the other end reports an error, or the connection has ended."""
    line = read.readline()
    if not line.endswith(b"\n"):
        raise TreeError("the connection ended before the copy was complete")
    message: dict[str, Any] = json.loads(line)
    if "error" in message:
        raise TreeError(message["error"])
    return message


def order(verb: str, path: bytes) -> dict[str, Any]:
    """Return the first message to the machine: `send` or `receive` a path."""
    return {"order": [verb, _text(path)]}


def shown(name: bytes | str) -> str:
    """Return a name as text on one line for the user."""
    text = (name if isinstance(name, bytes) else _bytes(name)).decode("utf-8", "backslashreplace") or "."
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _put(write: BinaryIO, kind: bytes, piece: bytes = b"") -> None:
    write.write(kind + len(piece).to_bytes(_HEAD - 1, "big") + piece)


def _exactly(read: BinaryIO, length: int) -> bytes:
    piece = read.read(length)
    if len(piece) < length:
        raise TreeError("the connection ended before the copy was complete")
    return piece


def _inside(root: bytes, name: str) -> bytes:
    return os.path.join(root, _bytes(name)) if name else root


def _bytes(name: str) -> bytes:
    return name.encode("latin-1")


def _text(name: bytes) -> str:
    return name.decode("latin-1")


if __name__ == "__main__":
    serve()
