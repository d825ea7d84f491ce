"""Install the programs of the local cloud, under a lock."""

from __future__ import annotations

from pathlib import Path

from clouds.driver import Tell
from clouds.local.host import programs
from clouds.locks import locked

INSTALL_S = 1800.0
"""How long to wait for another command that installs packages."""


def ensure_tools(folder: Path, tell: Tell) -> None:
    """Install missing programs, unless another command has just done so. MissingToolError: you must install a program yourself.

    `folder` holds the lock file; it is created if something is missing.
    """
    if not programs.missing_packages():
        programs.ensure_tools(tell)  # checks the kind of computer, too
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / ".install.lock", what="another command to install packages", timeout_s=INSTALL_S, tell=tell):
        programs.ensure_tools(tell)
