"""What machines print, put together from what EC2 returns: the last 64 KiB of one boot, without a position.

docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html. What was read is kept as long as the command runs; a later
read goes on where the two overlap. A position holds the last characters before it and the start of the boot that they are of, so
that another command can go on there too, as long as EC2 still returns them.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from clouds.driver import START, ConsoleText, Position

TAIL = 192
"""How many characters a position holds. As many that are equal come twice in hardly any boot: most lines have times in them."""
OVERLAP = 32
"""By how many characters two reads must overlap at least to count as one text, unless one begins with the other."""
KEPT = 4 * 1024 * 1024
"""How many characters are kept of one machine."""
_CUT = "\ufffd"
"""What boto3 makes of a character of which the window holds a part only, at its begin or end."""


@dataclass(slots=True)
class _Boot:
    """What one boot has printed: `pieces` that follow each other, with a gap between each two."""

    id: str
    pieces: list[str] = field(default_factory=lambda: [""])

    @property
    def text(self) -> str:
        return "".join(self.pieces)


@dataclass(slots=True)
class Console:
    """The console of one machine, as far as it has been read."""

    boots: list[_Boot] = field(default_factory=list)

    def take(self, boot: str, window: str) -> None:
        """Add what EC2 returns now of a boot, which may be the same as before, longer, moved on, or even older."""
        if not self.boots or self.boots[-1].id != boot:
            self.boots.append(_Boot(boot))
        pieces, window = self.boots[-1].pieces, window.strip(_CUT)
        if window in pieces[-1]:
            return
        overlap = _overlap(pieces[-1], window)
        if overlap or not pieces[-1]:
            pieces[-1] += window[overlap:]
        else:
            pieces.append(window)
        self._forget()

    def since(self, position: Position) -> ConsoleText:
        """Return what follows a position; what is lost if a gap lies between."""
        if position == START:
            return self._from(0, 0, START, lost=any(len(boot.pieces) > 1 for boot in self.boots))
        boot, tail = _read(position)
        number = next((number for number, one in enumerate(self.boots) if one.id == boot), -1)
        if number < 0:  # of a boot before, read by another command
            return self._from(0, 0, position, lost=True)
        at = self.boots[number].text.find(tail)
        if at < 0:
            return self._from(number, 0, position, lost=True)
        return self._from(number, at + len(tail), position, lost=self._has_gap(number, at + len(tail)))

    def _from(self, number: int, at: int, position: Position, *, lost: bool) -> ConsoleText:
        texts = [boot.text for boot in self.boots[number:]]
        found = "".join([texts[0][at:], *texts[1:]]) if texts else ""
        if not found:
            return ConsoleText("", position)
        last = next(boot for boot in reversed(self.boots) if boot.text)
        return ConsoleText(found, _write(last.id, last.text[-TAIL:]), lost=lost)

    def _has_gap(self, number: int, at: int) -> bool:
        """Say whether output is missing behind a place in a boot: a gap in that boot, or another boot, whose begin is unseen."""
        pieces = self.boots[number].pieces
        return any(boot.text for boot in self.boots[number + 1 :]) or (len(pieces) > 1 and at <= sum(map(len, pieces[:-1])))

    def _forget(self) -> None:
        """Drop the oldest boots when too much is kept."""
        while len(self.boots) > 1 and sum(len(boot.text) for boot in self.boots) > KEPT:
            del self.boots[0]


def _overlap(before: str, window: str) -> int:
    """Return how many characters at the end of what was read are those at the begin of a window; 0: it overlaps too little."""
    before = before[-len(window) :]
    while not window.startswith(before):
        at = before.find(window[:OVERLAP], 1)
        if at < 0:
            return 0
        before = before[at:]
    return len(before)


def _write(boot: str, tail: str) -> Position:
    return Position(f"{boot}/{base64.b64encode(tail.encode()).decode()}")


def _read(position: Position) -> tuple[str, str]:
    boot, _, tail = position.partition("/")
    try:
        return boot, base64.b64decode(tail, validate=True).decode()
    except ValueError:  # of another cloud or release
        return "", ""
