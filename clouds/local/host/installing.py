"""Install what the local cloud needs, one command at a time."""

from __future__ import annotations

from pathlib import Path

from clouds.driver import Tell
from clouds.local.host import programs
from clouds.locks import locked

INSTALL_S = 1800.0
"""How long to wait for another command that installs packages."""


def ensure_tools(folder: Path, tell: Tell) -> None:
    """Install what is missing, unless another command has done so meanwhile. MissingToolError: what to install by hand.

    `folder` holds the lock, and is made when something is missing.
    """
    if not programs.missing_packages():
        programs.ensure_tools(tell)  # it may be another kind of computer
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(folder / ".install.lock", what="another command to install packages", timeout_s=INSTALL_S, tell=tell):
        programs.ensure_tools(tell)
