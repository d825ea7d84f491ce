"""Where a verb speaks to its user: results on stdout, news and errors on stderr, questions where there is a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from clouds.errors import BakehouseError, UsageError


@dataclass(frozen=True, slots=True)
class Terminal:
    """The three streams of a command."""

    stdin: TextIO
    stdout: TextIO
    stderr: TextIO

    def out(self, line: str) -> None:
        """Write a line of the result."""
        self.stdout.write(f"{line}\n")
        self.stdout.flush()

    def out_json(self, value: object) -> None:
        """Write a result for programs: JSON on one line."""
        self.out(json.dumps(value))

    def tell(self, line: str) -> None:
        """Write a line of news."""
        self.stderr.write(f"{line}\n")
        self.stderr.flush()

    def confirm(self, question: str, *, yes: bool) -> None:
        """Return when the user agrees (`yes`: has done so already). Raises UsageError where nobody can be asked."""
        if yes:
            return
        if not self.stdin.isatty():
            raise UsageError(f"{question} There is no terminal to ask on.", next_step="Say so with --yes.")
        self.stderr.write(f"{question} [y/N] ")
        self.stderr.flush()
        if self.stdin.readline().strip().lower() not in ("y", "yes"):
            raise BakehouseError("nothing was deleted")


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return rows as aligned lines under the names of their columns; an empty column is left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    cells = [[name.upper() for name in columns], *([row[name] for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells if line]
