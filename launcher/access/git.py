"""git in a machine: your name and e-mail address, taken over from this computer."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

from clouds.driver import Cloud
from clouds.errors import CloudError, UsageError
from launcher.access.ssh import await_server, run

KEYS = ("user.name", "user.email")
"""What is taken over, and nothing else: other settings may name programs and credentials of this computer."""
_GIT_S = 10
_STORE = """set -eu
while [ $# -gt 0 ]; do git config --global "$1" "$2"; shift 2; done
"""


def read_git_config() -> dict[str, str]:
    """Return the name and e-mail address of this computer's git configuration. UsageError names those that are not set."""
    try:
        found = {key: _value(key) for key in KEYS}
    except FileNotFoundError:
        raise UsageError("--git-config: git is not installed on this computer", next_step="Leave --git-config out.") from None
    if missing := [key for key in KEYS if not found[key]]:
        them, commands = "them" if missing[1:] else "it", "; ".join(f"git config --global {key} 'VALUE'" for key in missing)
        raise UsageError(f"--git-config: {' and '.join(missing)} not set on this computer", next_step=f"Set {them}: {commands}")
    return found


def _value(key: str) -> str:
    done = subprocess.run(["git", "config", "--get", key], capture_output=True, text=True, timeout=_GIT_S, check=False)
    return done.stdout.removesuffix("\n")


def send_git_config(cloud: Cloud, name: str, config: Mapping[str, str]) -> None:
    """Write settings to the git configuration of a running machine's user. CloudError: that failed."""
    await_server(cloud, name)
    done = run(cloud, name, ["sh", "-c", _STORE, "sh", *(word for pair in config.items() for word in pair)])
    if done.returncode:
        raise CloudError(
            f"machine {name!r}: could not store the settings of --git-config: {done.stderr.strip()}",
            next_step="Launch an image that contains git, or leave --git-config out.",
        )
