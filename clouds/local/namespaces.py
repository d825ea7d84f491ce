"""Check that this user may have user namespaces with a range of ids, which building a base without root takes.

mmdebstrap reads the range from /etc/subuid and /etc/subgid by user name; see subuid(5) and user_namespaces(7).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from clouds.errors import DeniedError
from clouds.local.mirrors import read_text

NAMESPACE = ("unshare", "--map-auto", "--map-root-user", "--mount")
"""Runs a command as root of a namespace: our own id is root there, and the ids of our range are all others."""

_IDS = 65536
"""A tree of Debian has owners up to 65534 (nobody)."""

_FIRST = 100000
_SYSCTL = "/etc/sysctl.d/60-bakehouse.conf"
"""Read at each boot, after what distributions set in 10-*.conf (sysctl.d(5))."""

_CHECK_S = 60
_SWITCHES = {
    # Ubuntu, on by default since 24.04: https://ubuntu.com/blog/ubuntu-23-10-restricted-unprivileged-user-namespaces;
    # unshare then fails to write uid_map: https://github.com/gominimal/minimal/issues/610
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    # Debian: https://security.stackexchange.com/questions/209529/what-does-enabling-kernel-unprivileged-userns-clone-do
    "kernel.unprivileged_userns_clone": ("0", "1"),
    # namespaces(7); how many are enough is a guess, the kernel's default depends on the memory
    "user.max_user_namespaces": ("0", "10000"),
}
"""Kernel settings that forbid namespaces: the value that does, and one that does not."""


_PROFILE = Path("/etc/apparmor.d/unshare-userns-restrict")
"""Loaded on Ubuntu 25.04, in Ubuntu's extra profiles before; whether later releases load it is not known."""

_DISABLE = f"sudo ln -s {_PROFILE} /etc/apparmor.d/disable/ && sudo apparmor_parser -R {_PROFILE}"
"""aa-disable(8) does the same; that it suffices for this profile is a guess."""


def check_namespaces() -> None:
    """Raise DeniedError, with the commands that change it, where this user may not build a base."""
    found = obstacles() or _failed([*NAMESPACE, "true"])
    if found:
        raise DeniedError(
            f"cannot build a base without root: {'; '.join(problem for problem, _ in found)}",
            next_step=advice([fix for _, fix in found]),
        )


def obstacles() -> list[tuple[str, str]]:
    """Return what keeps this user from building a base, each with the command that changes it ("" where none is known).

    This needs no newuidmap, so it holds before the package uidmap is installed too.
    """
    # A mount, and not `true`: a profile of AppArmor lets `unshare` make a namespace, and takes all rights from what it starts.
    # https://github.com/rootless-containers/rootlesskit/issues/494
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return [found for found in (_lacking_ranges(), *_failed(mount)) if found[0]]


def advice(commands: Sequence[str]) -> str:
    """Return the next step: commands to run, or another computer where one of them is not known."""
    if all(commands):
        return " && ".join(commands)
    return "Bake on a computer or in a container that permits user namespaces, or bake as root."


def _failed(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Return why a command in a namespace fails, with the command that changes it; an empty list when it works."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=_CHECK_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [(str(error), "")]
    if done.returncode == 0:
        return []
    switches = {name: _switch(name) for name in _SWITCHES}
    problem, fix = explain(done.stderr.strip(), switches, has_profile=_PROFILE.exists())
    return [(f"this user may not create user namespaces ({problem})", fix)]


def explain(words: str, switches: Mapping[str, str], *, has_profile: bool) -> tuple[str, str]:
    """Return why a command in a namespace failed (its words, unless a setting explains them) and the command that changes it."""
    problem, fix = forbidding_switch(switches)
    if not problem and has_profile and "permission denied" in words.lower():
        return f"{words}: AppArmor's profile {_PROFILE.name} takes all rights from what `unshare` starts", _DISABLE
    return problem or words, fix


def _lacking_ranges() -> tuple[str, str]:
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user id {os.getuid()} has no name in /etc/passwd", ""
    return missing_ranges(user, read_text(Path("/etc/subuid")), read_text(Path("/etc/subgid")))


def missing_ranges(user: str, subuid: str, subgid: str) -> tuple[str, str]:
    """Return problem and command for a user and the texts of /etc/subuid and /etc/subgid (`name:first:count` per line)."""
    texts = {"/etc/subuid": subuid, "/etc/subgid": subgid}
    lacking = [name for name, text in texts.items() if not any(count >= _IDS for _, count in ranges(text, user)[:1])]
    if not lacking:
        return "", ""
    options = {"/etc/subuid": "--add-subuids", "/etc/subgid": "--add-subgids"}
    words = [f"{options[name]} {_free_range(texts[name])}" for name in lacking]
    return f"user {user} has no range of {_IDS} ids in {' and '.join(lacking)}", f"sudo usermod {' '.join(words)} {user}"


def forbidding_switch(values: Mapping[str, str]) -> tuple[str, str]:
    """Return the kernel setting that forbids namespaces and the command that changes it; two empty texts for none."""
    for name, (forbids, allows) in _SWITCHES.items():
        if values.get(name) == forbids:
            return f"{name} is {forbids}", f"echo {name}={allows} | sudo tee -a {_SYSCTL} && sudo sysctl --system"
    return "", ""


def _switch(name: str) -> str:
    return read_text(Path("/proc/sys") / name.replace(".", "/")).strip()


def ranges(text: str, user: str = "") -> list[tuple[int, int]]:
    """Return (first, count) of each range in a text, or of one user's."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        first, _, count = rest.partition(":")
        if first.isdigit() and count.strip().isdigit() and user in ("", name):
            found.append((int(first), int(count)))
    return found


def _free_range(text: str) -> str:
    """Return a range behind all that are given away: `first-last`."""
    first = max([_FIRST, *(start + count for start, count in ranges(text))])
    return f"{first}-{first + _IDS - 1}"
