"""Check that this user may create user namespaces with a range of ids, which is required to build a base without root.

mmdebstrap reads the range from /etc/subuid and /etc/subgid by user name; see subuid(5) and user_namespaces(7).
mmdebstrap creates all namespaces of a build, including those of our own steps: Ubuntu restricts namespaces with AppArmor
profiles, and its profile `mmdebstrap` permits them, with all rights, whatever kernel.apparmor_restrict_unprivileged_userns is.
https://gitlab.com/apparmor/apparmor/-/blob/master/profiles/apparmor.d/mmdebstrap
"""

from __future__ import annotations

import os
import pwd
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from clouds.errors import DeniedError
from clouds.local.host.command import environment
from clouds.local.host.files import read_text
from clouds.local.host.programs import which

NAMESPACE = ("mmdebstrap", "--unshare-helper")
"""Runs a command as root of a namespace that maps our range of ids, but not our own id. See mmdebstrap(1)."""

_IDS = 65536
"""Files of Debian have owners up to 65534 (nobody)."""

_FIRST = 100000
_SYSCTL = "/etc/sysctl.d/60-bakehouse.conf"
"""Read at each boot, after the distributions' own 10-*.conf (sysctl.d(5))."""

_CHECK_S = 60
_SWITCHES = {
    # Ubuntu, on by default since 24.04: https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces;
    # unshare then fails to write uid_map: https://github.com/gominimal/minimal/issues/610
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    # Debian: https://security.stackexchange.com/questions/209529/what-does-enabling-kernel-unprivileged-userns-clone-do
    "kernel.unprivileged_userns_clone": ("0", "1"),
    # namespaces(7); 10000 is a guess: the kernel's default depends on the memory
    "user.max_user_namespaces": ("0", "10000"),
}
"""Kernel settings that forbid namespaces: the forbidding value, and one that allows them."""

_PROFILE = Path("/etc/apparmor.d/mmdebstrap")
"""From Ubuntu's package apparmor (24.04 and newer), so it exists before mmdebstrap is installed."""

_MOUNT = [*NAMESPACE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
"""A mount, since AppArmor may permit a namespace but deny every right in it."""

_HELPER = re.compile(r"E: (system failed: \d+|unshared command failed)")
"""What mmdebstrap adds when a command in a namespace fails; the lines above give the cause."""


def check_namespaces(profile: Path = _PROFILE) -> None:
    """Raise DeniedError, with the commands that fix it, if this user may not build a base."""
    found = obstacles(profile)
    if found:
        raise DeniedError(
            f"cannot build a base without root: {'; '.join(problem for problem, _ in found)}",
            next_step=advice([fix for _, fix in found]),
        )


def obstacles(profile: Path = _PROFILE) -> list[tuple[str, str]]:
    """Return the problems that keep this user from building a base, each with the command that fixes it ("" if unknown).

    If mmdebstrap can run, it creates a namespace and mounts in it. If not (not installed, no range of ids), `unshare` is tried
    instead, unless an AppArmor profile exists that permits namespaces to mmdebstrap only.
    """
    lacking, fix = _lacking_ranges()
    if not lacking and all(map(which, (NAMESPACE[0], "newuidmap", "newgidmap"))):
        return _failed(_MOUNT)
    refused = [] if profile.exists() else _failed(["unshare", "--map-root-user", "true"])
    return [(lacking, fix), *refused] if lacking else refused


def advice(commands: Sequence[str]) -> str:
    """Return the next step: the commands to run, or to use another computer if one of them is unknown."""
    if all(commands):
        return " && ".join(commands)
    return "Bake on a computer or in a container that permits user namespaces, or bake as root."


def _failed(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Return why a command in a namespace fails, with the command that fixes it; an empty list if it works."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=_CHECK_S, env=environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [(str(error), "")]
    if done.returncode == 0:
        return []
    problem, fix = forbidding_switch({name: _switch(name) for name in _SWITCHES})
    said = "; ".join(words(done.stderr).splitlines())
    return [(f"this user may not create user namespaces ({problem or said})", fix)]


def words(said: str) -> str:
    """Return the output of a command in a namespace, without the lines of mmdebstrap."""
    lines = [line.strip() for line in said.splitlines()]
    return "\n".join(line for line in lines if line and not _HELPER.fullmatch(line))


def _lacking_ranges() -> tuple[str, str]:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user id {os.getuid()} has no name in /etc/passwd", ""
    return missing_ranges(user, read_text(Path("/etc/subuid")), read_text(Path("/etc/subgid")))


def missing_ranges(user: str, subuid: str, subgid: str) -> tuple[str, str]:
    """Return (problem, command) for a user and the texts of /etc/subuid and /etc/subgid (`name:first:count` per line)."""
    texts = {"/etc/subuid": subuid, "/etc/subgid": subgid}
    lacking = [name for name, text in texts.items() if not any(count >= _IDS for _, count in ranges(text, user)[:1])]
    if not lacking:
        return "", ""
    options = {"/etc/subuid": "--add-subuids", "/etc/subgid": "--add-subgids"}
    words = [f"{options[name]} {_free_range(texts[name])}" for name in lacking]
    return f"user {user} has no range of {_IDS} ids in {' and '.join(lacking)}", f"sudo usermod {' '.join(words)} {user}"


def forbidding_switch(values: Mapping[str, str]) -> tuple[str, str]:
    """Return the kernel setting that forbids namespaces and the command that changes it; two empty strings if none does."""
    for name, (forbids, allows) in _SWITCHES.items():
        if values.get(name) == forbids:
            return f"{name} is {forbids}", f"echo {name}={allows} | sudo tee -a {_SYSCTL} && sudo sysctl --system"
    return "", ""


def _switch(name: str) -> str:
    return read_text(Path("/proc/sys") / name.replace(".", "/")).strip()


def ranges(text: str, user: str = "") -> list[tuple[int, int]]:
    """Return (first, count) of each range in a text, or of the ranges of one user."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.isdigit() and count.strip().isdigit() and user in ("", name):
            found.append((int(first), int(count)))
    return found


def _free_range(text: str) -> str:
    """Return a range after all existing ones: `first-last`."""
    first = max([_FIRST, *(start + count for start, count in ranges(text))])
    return f"{first}-{first + _IDS - 1}"
