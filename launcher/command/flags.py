"""What a verb of the command line is: a frozen record, from which Invoke's tasks and argparse's parsers are made alike.

Both front ends hand over plain strings, and True or False for a switch; `read` turns them into values, in one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from clouds.errors import UsageError
from launcher.command.terminal import Terminal

Parse = Callable[[str], object]
"""Turns what was typed into a value; raises ValueError with `what is wrong (what to write instead)`."""

Values = Mapping[str, Any]
"""The values of a verb's positionals and flags, by `key`; `command` holds the words behind `--`."""

_WHOLE = re.compile(r"[0-9]{1,9}")
_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


def text(typed: str) -> str:
    """Take any text that is not empty."""
    if not typed.strip():
        raise ValueError("is empty (write a value, or leave the flag out)")
    return typed


def positive(typed: str) -> int:
    """Read a whole number of 1 or more."""
    if not _WHOLE.fullmatch(typed):
        raise ValueError("is not a whole number (write a number such as 2)")
    if int(typed) == 0:
        raise ValueError("is too small (write 1 or more)")
    return int(typed)


def hours(typed: str) -> float:
    """Read a number of hours; 0 is allowed."""
    if not _NUMBER.fullmatch(typed):
        raise ValueError("is not a number of hours (write a number such as 8 or 0.5, or 0 for no limit)")
    return float(typed)


def gigabytes(typed: str) -> float:
    """Read a size in GB; 0 is allowed."""
    if not _NUMBER.fullmatch(typed):
        raise ValueError("is not a number of GB (write a number such as 20 or 0.5)")
    return float(typed)


def port(typed: str) -> int:
    """Read the number of a TCP port."""
    if not _WHOLE.fullmatch(typed) or not 0 < int(typed) < 65536:
        raise ValueError("is not a port (write a number from 1 to 65535, such as 8443)")
    return int(typed)


def end(typed: str) -> str:
    """Read what becomes of a machine that ends: `clouds.driver.End` has both words."""
    if typed not in ("stop", "delete"):
        raise ValueError("is neither of the two (write stop or delete)")
    return typed


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag such as `--memory-mb 2048`; without `parse` it is a switch such as `--json`."""

    name: str
    help: str
    parse: Parse | None = text
    default: object = None

    @property
    def key(self) -> str:
        """The name of the flag's value: one that Python takes for a parameter, too."""
        return self.name.replace("-", "_") + ("_" if iskeyword(self.name) else "")


@dataclass(frozen=True, slots=True)
class Positional:
    """A value that is known by its place; it must be given."""

    name: str
    help: str


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that a user can ask for. `run` returns the exit code; with `takes_command`, `-- command` may follow."""

    name: str
    help: str
    run: Callable[[Values, Terminal], int]
    positionals: tuple[Positional, ...] = ()
    flags: tuple[Flag, ...] = ()
    takes_command: bool = False


def read(verb: Verb, typed: Mapping[str, str | bool | None], command: Sequence[str] = ()) -> Values:
    """Turn what was typed into values. Raises UsageError, which says where, what and what to write instead."""
    if command and not verb.takes_command:
        raise UsageError(f"{verb.name}: takes no command (leave out: -- {' '.join(command)})")
    values: dict[str, Any] = {"command": tuple(command)}
    for positional in verb.positionals:
        values[positional.name] = _parsed(positional.name, text, str(typed[positional.name]))
    for flag in verb.flags:
        given = typed[flag.key]
        if flag.parse is None:
            values[flag.key] = bool(given)
        else:
            values[flag.key] = flag.default if given is None else _parsed(f"--{flag.name}", flag.parse, str(given))
    return values


def _parsed(where: str, parse: Parse, typed: str) -> object:
    try:
        return parse(typed)
    except ValueError as error:
        raise UsageError(f"{where}: {typed!r} {error}") from None
