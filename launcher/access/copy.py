"""Copy files and folders to or from a machine like `cp -rpL`: modes and times are kept, links are followed."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from clouds.driver import Cloud
from clouds.errors import CloudError, UsageError
from launcher.access.identity import openssh
from launcher.access.ssh import FAILED, check_reachable, config_of
from launcher.clean import clean

_REMOTE = re.compile(r"([a-z][a-z0-9-]*):(.*)", re.DOTALL)
"""NAME:PATH; a local file with such a name is written ./NAME:PATH."""


def copy(cloud: Cloud, source: str, destination: str) -> None:
    """Copy a file or folder; exactly one side is NAME:PATH (relative to the home there). An existing folder receives a copied one.

    UsageError: both sides or none are on a machine, or the local file does not exist. CloudError: the copy failed.
    """
    from_machine, to_machine = _REMOTE.fullmatch(source), _REMOTE.fullmatch(destination)
    machine = from_machine or to_machine
    if machine is None or (from_machine and to_machine):
        raise UsageError(
            f"copy {source} {destination}: exactly one side must be on a machine",
            next_step="Write that side as NAME:PATH, such as: ./inv copy results.csv jupyter-k7m2:work/",
        )
    if to_machine and not Path(source).exists():
        raise UsageError(f"{source}: no such file or folder", next_step="Give an existing file or folder.")
    name = machine[1]
    sides = [source if from_machine else _local(source), destination if to_machine else _local(destination)]
    # -s: SFTP, so that no remote shell interprets spaces and quotes in the path
    command = ["scp", "-s", "-r", "-p", "-F", config_of(cloud, name), "--", *sides]
    with openssh():
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode == FAILED:
        check_reachable(cloud, name, done.stderr)
    if done.returncode:
        said = clean(done.stderr).strip() or f"exit status {done.returncode}"
        raise CloudError(
            f"copy {source} {destination}: scp failed\n{said}", next_step=f"Check the files there: ./inv ssh {name} -- ls -la"
        )


def _local(path: str) -> str:
    """Return a local path that scp takes for neither NAME:PATH nor an option; a trailing slash is kept."""
    return path if path.startswith(("/", "./", "../")) else f"./{path}"
