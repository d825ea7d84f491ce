"""A machine's password: generated or read here, hashed here, and stored nowhere; only its hash is sent."""

from __future__ import annotations

import getpass
import re
import secrets
import sys
from pathlib import Path

from clouds.driver import Cloud
from clouds.errors import CloudError, UsageError
from launcher.access.ssh import run
from launcher.machines import notebook_machine

GROUPS, GROUP_LENGTH = 4, 5
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""31 characters that are not easily confused; 20 of them hold 99 bits."""

LENGTH_MIN, LENGTH_MAX = 8, 1024
TIME_COST, MEMORY_KIB, PARALLELISM = 5, 7 * 1024, 1
"""Argon2id, one of the equivalent settings of cheatsheetseries.owasp.org (Password Storage): the one that needs the least time
and memory, since the guest checks it at each log-in and may be emulated."""
_GENERATED = re.compile(rf"[{_ALPHABET}]{{{GROUP_LENGTH}}}(-[{_ALPHABET}]{{{GROUP_LENGTH}}}){{{GROUPS - 1}}}")
"""What `generate` returns. 99 bits cannot be guessed however fast a guess is, so a cheap hash suffices: checking it takes an
emulated guest half a second less."""
SET_PASSWORD = ("sudo", "/usr/lib/bakehouse/set-password")


def generate() -> str:
    """Return a new password that can be read aloud, such as `k7m2p-x9abc-d3efg-h4jkm`."""
    return "-".join("".join(secrets.choice(_ALPHABET) for _ in range(GROUP_LENGTH)) for _ in range(GROUPS))


def read_password(file: str) -> str:
    """Return the password in a file, or on standard input for `-` (on a terminal: a prompt without echo).

    One line break at the end is not part of it. UsageError: it is empty or cannot be typed into a form.
    """
    if file == "-" and sys.stdin.isatty():
        return prompt()
    return check(_read(file).removesuffix("\n").removesuffix("\r"), where="standard input" if file == "-" else file)


def prompt() -> str:
    """Prompt for a password on the terminal, twice and without echo. UsageError: the two differ."""
    password = check(getpass.getpass("Password: "), where="password")
    if getpass.getpass("Password (again): ") != password:
        raise UsageError("the two passwords differ", next_step="Try again.")
    return password


def check(password: str, *, where: str) -> str:
    """Return a password if Jupyter's form accepts it unchanged; `where` is what an error starts with.

    The form strips spaces at both ends and control characters (tornado's `get_argument`): such a password never matches its hash.
    """
    if not password:
        raise UsageError(f"{where}: the password is empty", next_step="Write the password on the first line.")
    if len(password) < LENGTH_MIN:
        raise UsageError(
            f"{where}: the password has fewer than {LENGTH_MIN} characters, so it could be guessed",
            next_step="Choose a longer one, or omit --password-file to get a generated one.",
        )
    if len(password) > LENGTH_MAX:
        raise UsageError(f"{where}: the password is longer than {LENGTH_MAX} characters", next_step="Choose a shorter one.")
    if password != password.strip() or any(not character.isprintable() for character in password):
        raise UsageError(
            f"{where}: the password has several lines, a control character, or a space at one end",
            next_step="Choose one with printable characters on a single line.",
        )
    return password


def hash_password(password: str) -> str:
    """Return the hash in Jupyter's form, `argon2:$argon2id$...` (jupyter_server.auth.security.passwd_check reads it)."""
    from argon2 import PasswordHasher

    time_cost, memory_kib = (1, 1024) if _GENERATED.fullmatch(password) else (TIME_COST, MEMORY_KIB)
    return "argon2:" + PasswordHasher(time_cost=time_cost, memory_cost=memory_kib, parallelism=PARALLELISM).hash(password)


def set_password(cloud: Cloud, name: str, password: str) -> None:
    """Set a new password on a running machine, valid at once; its hash is sent on standard input, never as an argument."""
    notebook_machine(cloud, name)
    done = run(cloud, name, SET_PASSWORD, stdin=hash_password(password) + "\n")
    if done.returncode:
        raise CloudError(
            f"machine {name!r}: could not set its password: {done.stderr.strip() or f'exit status {done.returncode}'}",
            next_step=f"Look at its console: ./inv log {name}",
        )


def _read(file: str) -> str:
    """Read no more than the longest password: a wrong file may be large, or endless."""
    try:
        if file == "-":
            typed = sys.stdin.read(LENGTH_MAX + 3)
            typed.encode()  # in some locales, bytes that are not UTF-8 are read as surrogates
            return typed
        with Path(file).open(encoding="utf-8", newline="") as opened:
            return opened.read(LENGTH_MAX + 3)
    except UnicodeError:
        where = "standard input" if file == "-" else file
        raise UsageError(f"{where}: is not UTF-8 text", next_step="Save the password as UTF-8.") from None
    except OSError as error:
        raise UsageError(
            f"{file}: {error.strerror}", next_step="Give a file that contains the password, or - for standard input."
        ) from error
