"""The definition of a verb: a frozen record, from which both Invoke's tasks and argparse's parsers are made.

Both front ends pass plain strings, and True or False for a switch; only `read` converts them to values.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import Any

from clouds import ranges
from clouds.errors import UsageError
from launcher.command.terminal import Terminal

Parse = Callable[[str], object]
"""Converts a typed string to a value; raises ValueError with `what is wrong (what to write instead)`, or a whole UsageError."""

Values = Mapping[str, Any]
"""The values of a verb's positionals and flags, by `key`; `command` holds the words behind `--`."""

_WHOLE = re.compile(r"-?[0-9]{1,999}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_ZERO = re.compile(r"0+(\.0+)?")
_GPU = re.compile(r"[a-zA-Z][a-zA-Z0-9]{0,15}(:[1-9][0-9]{0,5})?", re.ASCII)
_ADDRESS_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""Of Compute Engine (RFC 1035), the strictest of all clouds."""


def text(typed: str) -> str:
    """Accept any text that is not empty."""
    if not typed.strip():
        raise ValueError("is empty (write a value, or leave the flag out)")
    return typed


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser for a whole number in a range."""

    def parse(typed: str) -> int:
        if not _WHOLE.fullmatch(typed):
            raise ValueError(f"is not a whole number (write one from {lowest} to {highest})")
        number = int(typed)
        if number < lowest:
            raise ValueError(f"is too small (write {lowest} or more)")
        if number > highest:
            raise ValueError(f"is too large (write {highest} or less)")
        return number

    return parse


def _number(typed: str, what: str, lowest: float, highest: float, also: str = "") -> float:
    """Read a number with or without a fraction; `also` is what else a user may write."""
    instead = f"write one from {lowest:g} to {highest:.10g}{also}"
    if not _NUMBER.fullmatch(typed):
        raise ValueError(f"is not {what} ({instead})")
    number = float(typed)
    if number < lowest:
        raise ValueError(f"is too small ({instead})")
    if number > highest:
        raise ValueError(f"is too large ({instead})")
    return number


count, days = whole(*ranges.IMAGES), whole(*ranges.DAYS)
cpus, memory_mb, disk_gb = whole(*ranges.CPUS), whole(*ranges.MEMORY_MB), whole(*ranges.DISK_GB)


def hours(typed: str) -> float:
    """Read a lifetime in hours; 0 means no limit."""
    if _ZERO.fullmatch(typed):
        return 0.0
    return _number(typed, "a number of hours", *ranges.LIFETIME_H, also=", such as 8, or 0 for no limit")


def machine_name(typed: str) -> str:
    """Read a name for a new machine."""
    from clouds.names import check_machine_name  # 10 ms, which `./inv --list` need not spend

    return check_machine_name(typed)


def address_name(typed: str) -> str:
    """Read the name of a static address."""
    if not _ADDRESS_NAME.fullmatch(typed):
        rule = "at most 63 of a-z, 0-9 and '-', starting with a letter and not ending with '-', such as notebook-1"
        raise ValueError(f"is not a name for an address (write {rule})")
    return typed


def image_version(typed: str) -> str:
    """Read the version of an image, such as 1.4.0-7."""
    from clouds.names import parse_version

    return str(parse_version(typed))


def password_file(typed: str) -> str:
    """Read the name of a file that can be read, or `-`; the password itself is read when it is needed."""
    if typed != "-" and (not os.access(typed, os.R_OK) or Path(typed).is_dir()):
        raise ValueError("is not a file that can be read (write the path of one with the password, or - for standard input)")
    return typed


def env_file(typed: str) -> str:
    """Read the name of a file that can be read, or `-`; its lines are read when they are needed."""
    if typed != "-" and (not os.access(typed, os.R_OK) or Path(typed).is_dir()):
        raise ValueError("is not a file that can be read (write the path of one with lines NAME=VALUE, or - for standard input)")
    return typed


def git_url(typed: str) -> str:
    """Read the URL of a git repository."""
    from launcher.access.clone import read_url  # it loads what `./inv --list` need not

    return read_url(typed).url


def gigabytes(typed: str) -> float:
    """Read a size in GB; 0 is allowed."""
    return _number(typed, "a number of GB", *ranges.LAYERS_GB)


def dollars(typed: str) -> float:
    """Read a price of an hour in US dollars."""
    return _number(typed, "a price in US dollars per hour", *ranges.PRICE_USD)


def port(typed: str) -> int:
    """Read the number of a TCP port at which nothing but a notebook listens on a machine."""
    from launcher.access.identity import SSH_PORT  # costs some ms, which `./inv --list` need not spend

    if not _WHOLE.fullmatch(typed) or not ranges.PORT[0] <= int(typed) <= ranges.PORT[1]:
        raise ValueError("is not a port (write a number from 1 to 65535, such as 8443)")
    if int(typed) == SSH_PORT:
        raise ValueError("is the port of SSH inside the machine (write another one, such as 8443)")
    return int(typed)


def gpu(typed: str) -> str:
    """Read a model of GPU, and their number if it is not 1: t4 or a100:8."""
    if not _GPU.fullmatch(typed):
        raise ValueError("is not a GPU (write its model, such as t4, and if it is more than one, their number: a100:8)")
    return typed.lower()


def end(typed: str) -> str:
    """Read what happens to a machine at its end: one of the values of `clouds.driver.End`."""
    if typed not in ("stop", "delete"):
        raise ValueError("is not one of the choices (write stop or delete)")
    return typed


EXAMPLES: Mapping[Parse | None, str] = {
    count: "3",
    days: "30",
    cpus: "2",
    memory_mb: "4096",
    disk_gb: "20",
    hours: "8",
    address_name: "notebook-1",
    gigabytes: "20",
    dollars: "0.05",
    port: "8443",
    gpu: "t4",
    end: "stop",
}
"""A value that each of these parsers accepts."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag such as `--memory-mb 2048`; without `parse` it is a switch such as `--json`."""

    name: str
    help: str
    parse: Parse | None = text
    default: object = None

    @property
    def key(self) -> str:
        """The key of the flag's value, which is also valid as the name of a Python parameter."""
        return self.name.replace("-", "_") + ("_" if iskeyword(self.name) else "")


@dataclass(frozen=True, slots=True)
class Positional:
    """A required positional argument."""

    name: str
    help: str


@dataclass(frozen=True, slots=True)
class Verb:
    """A subcommand. `run` returns the exit code; with `takes_command`, `-- COMMAND` may follow.

    `check` raises UsageError for values that do not fit together, or that the cloud does not support. It may read files and start
    programs of this computer, but sends no request to a cloud. It is called before the first of several verbs runs.
    """

    name: str
    help: str
    run: Callable[[Values, Terminal], int]
    positionals: tuple[Positional, ...] = ()
    flags: tuple[Flag, ...] = ()
    takes_command: bool = False
    check: Callable[[Values], object] | None = None


def read(verb: Verb, typed: Mapping[str, str | bool | None], command: Sequence[str] = ()) -> Values:
    """Convert the typed strings to values. UsageError names the flag, what is wrong and what to write instead."""
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
