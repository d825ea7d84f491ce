"""Variables for a machine, from a file on this computer: sent over SSH, stored on the machine only, readable by its user only."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from clouds.driver import Cloud
from clouds.errors import CloudError, UsageError
from launcher.access.ssh import await_server, run

BYTES_MAX = 1 << 20
"""The largest file of variables."""
LINE_BYTES_MAX = (1 << 17) - 1
"""The longest NAME=VALUE with which Linux starts a program: MAX_ARG_STRLEN in execve(2), less the NUL."""
_SHOWN = 10
"""How many lines an error names."""
FILE = ".config/environment.d/90-launch.conf"
"""Where a machine keeps them, below its user's home; environment.d(5) describes the format."""
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)")
_STORE = f"""set -eu
umask 077
mkdir -p .config/environment.d
cat >{FILE}.part
mv {FILE}.part {FILE}
"""


def read_env_file(file: str) -> dict[str, str]:
    """Return the variables in a file of lines NAME=VALUE, or on standard input for `-`.

    Values are taken as they are, without a pair of quotes around them; empty lines and comments (#) are skipped. UsageError
    names all wrong lines, but does not repeat them, since they may contain secrets.
    """
    found: dict[str, str] = {}
    wrong: list[int] = []
    too_long: list[int] = []
    for number, line in enumerate(_read(file).removeprefix("\ufeff").split("\n"), start=1):  # other separators may be in a value
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        matched = _LINE.fullmatch(line.removesuffix("\r"))
        if matched is None or "\0" in line:
            wrong.append(number)
        elif len(f"{matched[1]}={matched[2]}".encode()) > LINE_BYTES_MAX:
            too_long.append(number)
        else:
            found[matched[1]] = _unquoted(matched[2].strip(" \t"))
    if wrong:
        raise UsageError(
            f"--env-file {file}: {_lines(wrong)} not NAME=VALUE",
            next_step="Write one NAME=VALUE on each line; a name has letters, digits and '_', and starts with no digit.",
        )
    if too_long:
        raise UsageError(
            f"--env-file {file}: {_lines(too_long)} longer than {LINE_BYTES_MAX} bytes, the longest variable on Linux",
            next_step="Copy the value as a file: ./inv copy FILE NAME:",
        )
    return found


def _lines(numbers: Sequence[int]) -> str:
    """Return the subject of a sentence: `line 2 is`, `lines 2, 5 are`, `lines 2, 5, 6 and 40 more are`."""
    if len(numbers) == 1:
        return f"line {numbers[0]} is"
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"lines {', '.join(map(str, numbers[:_SHOWN]))}{more} are"


def _unquoted(value: str) -> str:
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'" else value


def as_environment_d(variables: Mapping[str, str]) -> str:
    """Return variables in the format of environment.d(5), in which nothing of a value is expanded."""
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in variables.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")


def send_environment(cloud: Cloud, name: str, variables: Mapping[str, str]) -> None:
    """Store variables on a running machine; they are sent on standard input, never as an argument. CloudError: that failed."""
    await_server(cloud, name)
    done = run(cloud, name, ["sh", "-c", _STORE], stdin=as_environment_d(variables))
    if done.returncode:
        raise CloudError(
            f"machine {name!r}: could not store the variables of --env-file: {done.stderr.strip()}",
            next_step=f"Look at its console: ./inv log {name}",
        )


def _read(file: str) -> str:
    try:
        if file == "-" and sys.stdin:
            content = sys.stdin.buffer.read(BYTES_MAX + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(BYTES_MAX + 1)
        if len(content) > BYTES_MAX:
            raise UsageError(f"--env-file {file}: larger than {BYTES_MAX >> 20} MiB", next_step="Give a file of variables only.")
        return content.decode()
    except UnicodeDecodeError:
        raise UsageError(f"--env-file {file}: not UTF-8 text", next_step="Write one NAME=VALUE on each line.") from None
    except OSError as error:
        raise UsageError(
            f"--env-file {file}: {error.strerror}", next_step="Give a file with one NAME=VALUE on each line."
        ) from error
