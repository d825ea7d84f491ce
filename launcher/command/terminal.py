"""Where a verb speaks to its user: results on stdout, news and errors on stderr, questions where there is a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from clouds.errors import BakehouseError, UsageError
from launcher.clean import clean
from launcher.command import hints


@dataclass(frozen=True, slots=True)
class Terminal:
    """The three streams of a command, and the cloud that it named: the commands that it tells of name that one, too.

    Python gives None for a stream that was closed before the command started.
    """

    stdin: TextIO | None
    stdout: TextIO
    stderr: TextIO
    cloud: str = ""

    def hint(self, text: str) -> str:
        """Return a text of ours whose commands are for the cloud that this command works in."""
        return hints.write(text, self.cloud)

    def out(self, line: str) -> None:
        """Write a line of the result; what would steer the reader's terminal is left out."""
        self.out_exactly(clean(line))

    def out_exactly(self, line: str) -> None:
        """Write a line of a result that is for programs, or that no guest has a part in, as it is."""
        self.stdout.write(f"{line}\n")
        self.stdout.flush()

    def out_json(self, value: object) -> None:
        """Write a result for programs: JSON on one line."""
        self.out_exactly(json.dumps(value))

    def tell(self, line: str) -> None:
        """Write a line of news; the commands in it are for the cloud of this command."""
        self.quote(self.hint(line))

    def quote(self, line: str) -> None:
        """Write a line on stderr; its commands stay as they are, and what would steer the reader's terminal is left out."""
        self.stderr.write(f"{clean(line)}\n")
        self.stderr.flush()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return when the user agrees (`yes`: has done so already). Raises UsageError where nobody can be asked."""
        if yes:
            return
        if self.stdin is None or not self.stdin.isatty():
            raise UsageError(f"{question} There is no terminal to ask on.", next_step="Say so with --yes.")
        self.stderr.write(f"{clean(question)} [y/N] ")
        self.stderr.flush()
        if getattr(self.stderr, "lost", None):
            raise UsageError(f"{question} The question could not be written.", next_step="Say so with --yes.")
        if self.stdin.readline().strip().lower() not in ("y", "yes"):
            raise BakehouseError("nothing was deleted")


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return rows as aligned lines under the names of their columns; an empty column is left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    cells = [[name.upper() for name in columns], *([" ".join(clean(row[name]).split()) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells if line]
