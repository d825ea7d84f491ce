"""The edges of every verb, from the tables of verbs: what may be wrong with what is typed, and with the files on this computer."""

from __future__ import annotations

import ctypes
import io
import os
import resource
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import tasks
from clouds.errors import UsageError
from launcher.command import runner
from launcher.command.flags import Verb, text
from launcher.command.terminal import Terminal
from tests.cli.verbs import VERBS

PRODUCT: Mapping[str, Verb] = {name: verb for name, verb in VERBS.items() if verb not in tasks.VERBS}
"""The verbs that tests may run: all but those that run the tests."""
FAILING = {name: verb for name, verb in PRODUCT.items() if name != "doctor"}
"""Those of them that end with an error if something is wrong: the result of `doctor` is what is wrong (bakery/test_doctor.py)."""
ODD_WORDS = {
    "empty": "",
    "blank": "  ",
    "minus": "-1",
    "huge": "9" * 5000,
    "exponent": "1e9",
    "not a number": "nan",
    "digit of another script": "٣",
    "words": "a b",
    "lines": "a\nb",
    "NUL": "a\0b",
    "control sequence": "\x1b[2J",
    "not UTF-8": "a\udcffb",
    "path": "../../etc/passwd",
    "option": "--help",
    "shell": "$(id);'\"",
    "long": "a" * 5000,
}
"""What may be typed as any value, by a name for the case. A byte that is not UTF-8 arrives as a surrogate (PEP 383)."""
_CAPABILITIES = 0x20080522, 1 << 1 | 1 << 2 | 1 << 3
"""_LINUX_CAPABILITY_VERSION_3, and CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER (linux/capability.h)."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a verb has ended."""

    code: int
    stdout: str
    stderr: str

    def problems(self) -> list[str]:
        """Return what is wrong with this end: a bug, a failure without an error, an error without a next step."""
        lines = [line for line in self.stderr.splitlines() if line.strip()]
        found = []
        if self.code == runner.BUG or "Traceback" in self.stderr + self.stdout:
            found.append("a bug")
        if self.code and not any(line.startswith(("error: ", "nothing was")) for line in lines):
            found.append("no error")
        if self.code == 1 and not self.stderr.startswith("nothing was") and "next: " not in self.stderr:
            found.append("no next step")
        return found


def run(verb: Verb, command: tuple[str, ...] = (), **typed: str | bool | None) -> Ended:
    """Run a verb, with streams as a process has them: what is no text in UTF-8 cannot be written to them as it is."""
    nothing: dict[str, str | bool | None] = {flag.key: False if flag.parse is None else None for flag in verb.flags}
    stdout, stderr = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code = runner.run(verb, nothing | typed, command, Terminal(io.StringIO(), stdout, stderr))
    return Ended(code, *(stream.buffer.getvalue().decode() for stream in (stdout, stderr)))  # type: ignore[attr-defined]


def typed_for(verb: Verb, positionals: Mapping[str, str], flags: Mapping[str, str]) -> dict[str, str | bool | None]:
    """Return what a sensible user types, by names; `lab` for a positional that is not among these.

    With `--dry-run`, where there is one: else it would bake in a process of its own, on a real cloud.
    """
    typed: dict[str, str | bool | None] = {one.name: positionals.get(one.name, "lab") for one in verb.positionals}
    flags = {"keep": "1", **flags}
    typed |= {flag.key: flags[flag.name] for flag in verb.flags if flag.name in flags}
    return typed | {flag.key: True for flag in verb.flags if flag.name in ("yes", "dry-run")}


def is_refused(verb: Verb, name: str, word: str) -> bool:
    """Return whether the parser of a flag or positional refuses a word; other text is checked where it is used."""
    parse = next((flag.parse for flag in verb.flags if flag.name == name), None) or text
    try:
        parse(word)
    except (ValueError, UsageError):
        return True
    return False


@contextmanager
def without_privileges() -> Iterator[None]:
    """Let the modes of files apply to this thread, and to what it starts, as they do to an ordinary user, even if root runs it."""
    if os.getuid() != 0:
        yield
        return
    libc, (version, dropped) = ctypes.CDLL(None, use_errno=True), _CAPABILITIES
    header, sets = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    effective = sets[0]
    sets[0] = effective & ~dropped
    assert libc.capset(header, sets) == 0
    try:
        yield
    finally:
        sets[0] = effective
        assert libc.capset(header, sets) == 0


@contextmanager
def full_disk(after_bytes: int) -> Iterator[None]:
    """Let no file of this process become larger than this, so that writes fail as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder by path; those of a database by what it holds."""
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(b"SQLite format 3\0"):
        return content
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            return "\n".join(database.iterdump()).encode()
    except sqlite3.Error:
        return content


def _write(content: bytes) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        if path.is_dir():
            shutil.rmtree(path)
        path.write_bytes(content)

    return damage


def _cut(path: Path) -> None:
    if path.is_file():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        remove(path)


def _become_folder(path: Path) -> None:
    remove(path)
    path.mkdir()
    (path / ".kept").write_text("of the user")


def _loop(path: Path) -> None:
    remove(path)
    path.symlink_to(path.name)


def remove(path: Path) -> None:
    """Remove a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


FAULTS: dict[str, Callable[[Path], None]] = {
    "empty": _write(b""),
    "cut": _cut,
    "binary": _write(bytes(range(256)) * 40),
    "text": _write(b"This is a text, and nothing else.\n" * 100),
    "list": _write(b'[{"version": 99}]'),
    "of another release": _write(b'{"version": 99, "labels": 3, "files": [], "packages": {"a": [1]}}'),
    "nested": _write(b"[" * 100_000),
    "a folder": _become_folder,
    "a loop": _loop,
    "missing": remove,
    "not readable": lambda path: path.chmod(0),
    "read-only": lambda path: path.chmod(0o500 if path.is_dir() else 0o400),
}
"""What may happen to a file, or to a folder, by a name for the case."""
