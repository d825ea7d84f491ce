"""Copy files and folders to or from a machine: links stay links, modes and times are kept, special files are left out.

Both ends are `launcher.access.tree`: here as a module, on the machine as text for its own Python, through one SSH connection.
"""

from __future__ import annotations

import base64
import os
import re
import secrets
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clouds.driver import Cloud, Tell
from clouds.errors import CloudError, UsageError
from launcher.access import tree
from launcher.access.meter import Meter
from launcher.access.ssh import Piped, piped

_REMOTE = re.compile(r"([a-z][a-z0-9-]*):(.*)", re.DOTALL)
"""NAME:PATH; a local file with such a name is written ./NAME:PATH."""
_SHOWN = 20
"""How many names of each kind a report contains."""
_NOISE_LINES = 10_000
"""How many lines the shell's start files on a machine may print before our program's first one."""


def copy(
    cloud: Cloud,
    source: str,
    destination: str,
    *,
    tell: Tell = lambda _line: None,
    transient: Callable[[str], None] | None = None,
) -> None:
    """Copy a file or folder; exactly one side is NAME:PATH (relative to the home there). An existing folder receives a copied one.

    `transient` shows a line of progress, which the next one replaces. UsageError: both sides or none are on a machine, or the
    local file does not exist. CloudError: the copy failed, or some files could not be copied.
    """
    machine, path, to_machine = _sides(source, destination)
    if to_machine and (reason := _why_absent(source)):
        raise UsageError(f"{source}: {reason}", next_step="Give an existing file or folder.")
    meter = Meter(transient)
    mark = secrets.token_hex(16)
    try:
        with piped(cloud, machine, [*_PROGRAM, mark]) as far:
            _await_mark(far, mark)
            report = _transfer(far, source if to_machine else destination, path, meter, sends=to_machine)
    except tree.TreeError as error:
        raise CloudError(
            f"copy {source} {destination}: {error}",
            next_step="Fix the cause and run the same command again; files that are complete are skipped.",
        ) from None
    finally:
        meter.end()
    _tell_report(report, f"copy {source} {destination}", tell, root=source if to_machine else path)


def _why_absent(path: str) -> str:
    """Return why a path on this computer cannot be copied; "" if it exists."""
    try:
        os.stat(path)  # noqa: PTH116 - not Path.exists, which raises for some reasons
    except (FileNotFoundError, NotADirectoryError):
        return "no such file or folder"
    except OSError as error:
        return str(error.strerror)
    return ""


def machine_of(source: str, destination: str) -> str:
    """Return the machine of a copy. UsageError: both sides or none are on a machine."""
    return _sides(source, destination)[0]


def _sides(source: str, destination: str) -> tuple[str, str, bool]:
    """Return the machine, the path on it, and whether it is the destination. UsageError: both sides or none are on a machine."""
    from_machine, to_machine = _REMOTE.fullmatch(source), _REMOTE.fullmatch(destination)
    machine = from_machine or to_machine
    if machine is None or (from_machine and to_machine):
        raise UsageError(
            f"copy {source} {destination}: exactly one side must be on a machine",
            next_step="Write that side as NAME:PATH, such as: ./inv copy results.csv jupyter-k7m2:work/",
        )
    return machine[1], machine[2], bool(to_machine)


def _transfer(far: Piped, here: str, there: str, meter: Meter, *, sends: bool) -> dict[str, Any]:
    """Copy between this computer and the machine's end; return the report."""
    tree.say(far.stdin, tree.order("receive" if sends else "send", os.fsencode(there)))
    end = tree.send if sends else tree.receive
    return end(os.fsencode(here), far.stdout, far.stdin, meter.count, meter.start)


def _await_mark(far: Piped, mark: str) -> None:
    """Skip what the shell's start files on the machine print, up to our program's first line."""
    for _ in range(_NOISE_LINES):
        line = far.stdout.readline()
        if line == f"{mark}\n".encode():
            return
        if not line:
            raise tree.TreeError("the machine's end did not start" + (f"\n{said}" if (said := far.said()) else ""))
    raise tree.TreeError("a start file of the shell on the machine (such as ~/.bashrc) prints without end")


def _tell_report(report: dict[str, Any], what: str, tell: Tell, *, root: str) -> None:
    """Tell what was left out or has changed meanwhile; `root`: what was copied. CloudError: some files could not be copied."""
    left_out = [f"{tree.shown(name)} ({kind})" for name, kind in report["left_out"]]
    changed = [tree.shown(name or os.fsencode(root)) for name in report["changed"]]
    failed = [f"{tree.shown(name or os.fsencode(root))}: {reason}" for name, reason in report["failed"]]
    if left_out:
        tell(f"left out, since only files, folders and links are copied: {_some(left_out, ', ')}")
    if changed:
        tell(f"changed while they were copied (run the command again to copy them anew): {_some(changed, ', ')}")
    if failed:
        files = "1 file or folder" if len(failed) == 1 else f"{len(failed)} files or folders"
        raise CloudError(
            f"{what}: could not copy {files}\n{_some(failed, chr(10))}",
            next_step="Fix the cause and run the same command again; files that are complete are skipped.",
        )


def _some(lines: list[str], between: str) -> str:
    rest = len(lines) - _SHOWN
    return between.join(lines[:_SHOWN] + ([f"and {rest} more"] if rest > 0 else []))


def _program() -> tuple[str, ...]:
    """Return the command of the machine's end, without a character that any login shell interprets inside single quotes."""
    text = base64.b64encode(zlib.compress(Path(tree.__file__).read_bytes(), 9)).decode()
    return "/usr/bin/python3", "-I", "-S", "-c", f'import base64,zlib;exec(zlib.decompress(base64.b64decode("{text}")))'


_PROGRAM = _program()
