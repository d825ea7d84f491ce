"""Read a machine's output from the files that QEMU writes."""

from __future__ import annotations

from pathlib import Path

from clouds.driver import START, ConsoleText, Position
from clouds.local.host.command import free_bytes, full_disk
from clouds.local.vm.sockets import qmp

_PIECE_BYTES = 4 * 2**20
_LOW_BYTES = 64 * 2**20


def read(path: Path, since: Position = START) -> ConsoleText:
    """Return the text after a position (here a byte offset); an incomplete UTF-8 character is left for the next read."""
    offset = int(since or 0)
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(min(offset, size))
        piece = file.read(_PIECE_BYTES)
    piece = piece[: whole_length(piece)]
    end = min(offset, size) + len(piece)
    return ConsoleText(piece.decode("utf-8", errors="replace"), Position(str(end)), lost=offset > size)


def whole_length(piece: bytes) -> int:
    """Return the length of a piece of UTF-8 without an incomplete character at its end."""
    for back in range(1, min(4, len(piece) + 1)):
        byte = piece[-back]
        if byte & 0xC0 != 0x80:  # the first byte of a character, which encodes its length
            needed = 4 if byte >= 0xF0 else 3 if byte >= 0xE0 else 2 if byte >= 0xC0 else 1
            return len(piece) - back if needed > back else len(piece)
    return len(piece)


def check_space(folder: Path) -> None:
    """Raise HostFullError if QEMU has paused a machine because this computer's disk is full."""
    if free_bytes(folder) > _LOW_BYTES:
        return
    try:
        status = qmp(folder, "query-status")
    except OSError:
        return
    if status["status"] == "io-error":
        raise full_disk(folder, f"machine {folder.name} is paused")
