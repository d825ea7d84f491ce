"""Copy files and folders to a machine or from it, as `cp -rpL` would: modes and times are kept, links are followed."""

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
"""NAME:path; a local file of such a name is written ./NAME:path."""


def copy(cloud: Cloud, source: str, destination: str) -> None:
    """Copy SRC to DST, one of which is NAME:path (relative to the home there). A folder goes into a folder that is there already.

    Raises UsageError when not exactly one side is on a machine or a local file is absent, CloudError when the copy failed.
    """
    from_machine, to_machine = _REMOTE.fullmatch(source), _REMOTE.fullmatch(destination)
    machine = from_machine or to_machine
    if machine is None or (from_machine and to_machine):
        raise UsageError(
            f"copy {source} {destination}: exactly one side is on a machine",
            next_step="Write that side as NAME:path, such as: ./inv copy results.csv jupyter-k7m2:work/",
        )
    if to_machine and not Path(source).exists():
        raise UsageError(f"{source}: no such file or folder", next_step="Give a file or folder that is there.")
    name = machine[1]
    sides = [source if from_machine else _local(source), destination if to_machine else _local(destination)]
    # -s: SFTP, so that no remote shell reads the path; spaces and quotes in it mean themselves
    command = ["scp", "-s", "-r", "-p", "-F", config_of(cloud, name), "--", *sides]
    with openssh():
        done = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    if done.returncode == FAILED:
        check_reachable(cloud, name, done.stderr)
    if done.returncode:
        said = clean(done.stderr).strip() or f"scp ended with exit status {done.returncode}"
        raise CloudError(f"copy {source} {destination}: scp failed\n{said}", next_step=f"Look there: ./inv ssh {name} -- ls -la")


def _local(path: str) -> str:
    """Write a local path so that scp never takes it for a machine's or for an option; a slash at its end stays."""
    return path if path.startswith(("/", "./", "../")) else f"./{path}"
