"""A verb's input and output: results on stdout, progress and errors on stderr, questions only on a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from clouds.errors import NotConfirmedError, UsageError
from launcher.clean import clean
from launcher.command import hints


@dataclass(slots=True)
class Terminal:
    """The three streams of a command, and the values of `--cloud` and `--region` for the commands in its messages.

    `launcher.command.places` sets the region once the cloud of the command is known.

    Python uses None for a stream that was closed before the command started.
    """

    stdin: TextIO | None
    stdout: TextIO
    stderr: TextIO
    cloud: str = ""
    region: str = ""

    def hint(self, text: str) -> str:
        """Add `--cloud` and `--region` to the commands in a text of ours, if they need them."""
        return hints.write(text, self.cloud, self.region)

    def out(self, line: str) -> None:
        """Write a line of the result, without control sequences."""
        self.out_exactly(clean(line))

    def out_exactly(self, line: str) -> None:
        """Write a line of a result unchanged: for programs, or without text from a guest."""
        self.stdout.write(f"{line}\n")
        self.stdout.flush()

    def out_json(self, value: object) -> None:
        """Write a result for programs: JSON on one line."""
        self.out_exactly(json.dumps(value))

    def tell(self, line: str) -> None:
        """Write a line of progress to stderr, with `--cloud` and `--region` added to its commands."""
        self.quote(self.hint(line))

    def quote(self, line: str) -> None:
        """Write a line to stderr, without control sequences; its commands are not changed."""
        self.stderr.write(f"{clean(line)}\n")
        self.stderr.flush()

    def transient(self, line: str) -> None:
        """Show a line of progress on a terminal, in place of the one before; "" removes it."""
        if self.stderr.isatty():
            self.stderr.write(f"\r{clean(line)}\x1b[K")
            self.stderr.flush()

    def confirm(self, question: str, *, yes: bool, declined: str = "nothing was deleted") -> None:
        """Ask for confirmation, unless `yes`. UsageError: there is no terminal to ask on. NotConfirmedError: the user declined."""
        if yes:
            return
        if self.stdin is None or not self.stdin.isatty():
            raise UsageError(f"no terminal to ask on: {question}", next_step="Confirm with --yes.")
        self.stderr.write(f"{clean(question)} [y/N] ")
        self.stderr.flush()
        if getattr(self.stderr, "lost", None):
            raise UsageError(f"could not write the question: {question}", next_step="Confirm with --yes.")
        if self.stdin.readline().strip().lower() not in ("y", "yes"):
            raise NotConfirmedError(declined)


def table(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Format rows as aligned lines under a header; empty columns are left out."""
    columns = [name for name in rows[0] if any(row[name] for row in rows)] if rows else []
    cells = [[name.upper() for name in columns], *([" ".join(clean(row[name]).split()) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells if line]
