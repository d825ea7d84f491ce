"""Bakehouse as its user runs it: the real command in a process of its own, and what it has left on this computer."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

PROJECT = Path(__file__).parents[2]
RECIPES = Path(__file__).parent / "recipes"
_PIECE = 1 << 24
"""How many bytes of a file are searched at a time."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The JSON lines of its standard output."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def result(self) -> Any:
        """The last JSON line of its standard output."""
        return self.lines[-1]

    @property
    def told(self) -> list[str]:
        """The lines of its standard error, but for two that say nothing about what a test asks.

        Those are: that KVM is not used, and that a kernel which died in its first moments, as happens now and then under emulation,
        is started once more.
        """
        others = ("starting it once more", "KVM is not used: ")
        return [line for line in self.stderr.splitlines() if not any(words in line for words in others)]


@dataclass(frozen=True)
class Bakehouse:
    """The command line with a store of its own."""

    home: Path

    def environment(self) -> dict[str, str]:
        """Return the environment of the commands."""
        return os.environ | {"BAKEHOUSE_HOME": str(self.home), "NO_COLOR": "1"}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a command; its output is to be read from its pipes."""
        command = [sys.executable, "-m", "invoke", "--search-root", str(PROJECT), *words]
        return subprocess.Popen(
            command,
            env=self.environment(),
            cwd="/",
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, *words: str, timeout_s: float = 600) -> Finished:
        """Run a command to its end."""
        return finish(self.start(*words), timeout_s=timeout_s)

    def must(self, *words: str, timeout_s: float = 600) -> Finished:
        """Run a command that has to end well."""
        finished = self.run(*words, timeout_s=timeout_s)
        assert finished.status == 0, f"{words}: exit status {finished.status}\n{finished.stdout}\n{finished.stderr}"
        return finished

    def left_overs(self) -> list[str]:
        """Return what is on this computer of machines and of things half made: processes, folders, ports."""
        processes = [f"process {pid}: {command}" for pid, command in self.processes()]
        patterns = ("local/machines/*", "local/images/.*", "local/images/*/.partial-*", "local/layers/.*", "bakes/*/.partial-*")
        return processes + [f"folder {path}" for pattern in patterns for path in self.home.glob(pattern)]

    def processes(self) -> Iterator[tuple[int, str]]:
        """Yield the processes that work in the store: their ids and commands."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                where = (folder / "cwd").readlink()
            except OSError:
                continue
            if int(folder.name) != os.getpid() and (str(self.home) in command or where.is_relative_to(self.home)):
                yield int(folder.name), command

    def files(self) -> Iterator[Path]:
        """Yield every file of the store."""
        return (path for path in self.home.rglob("*") if path.is_file())


def finish(process: subprocess.Popen[str], *, timeout_s: float = 600) -> Finished:
    """Wait for the end of a command that was started."""
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    finally:
        process.kill()
    return Finished(process.returncode, stdout, stderr)


def holds(path: Path, needles: Sequence[bytes]) -> bool:
    """Return whether a file contains one of some texts; it is read in pieces, its holes (all zeros) are not."""
    keep = max(map(len, needles))
    with path.open("rb") as file:
        for start, end in extents(file):
            tail = b""
            for offset in range(start, end, _PIECE):
                tail += os.pread(file.fileno(), min(_PIECE, end - offset), offset)
                if any(needle in tail for needle in needles):
                    return True
                tail = tail[-keep:]
    return False


def extents(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield where the data of a file begins and ends, in bytes, and skip its holes."""
    end = 0
    while True:
        try:
            start = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # no data behind this offset
                return
            raise
        end = os.lseek(file.fileno(), start, os.SEEK_HOLE)
        yield start, end
