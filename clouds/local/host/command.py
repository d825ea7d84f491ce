"""Run programs for the local cloud, and turn their failures into errors."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clouds.errors import CloudError, HostFullError, MissingToolError
from clouds.local.host.programs import advice

_FULL = ("No space left on device", "Disk quota exceeded")
_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def run(argv: Sequence[str], *, timeout_s: float, cwd: Path | None = None, stdin: str = "") -> str:
    """Run a program and return its standard output.

    Raises HostFullError if the disk is full, MissingToolError if the program is not installed, otherwise CloudError with the
    last lines of its output.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=cwd,
            env=environment(),
            check=False,
        )
    except FileNotFoundError as error:
        raise missing(argv[0]) from error
    except subprocess.TimeoutExpired as error:
        raise CloudError(
            f"{argv[0]} did not finish within {timeout_s:.0f} s", next_step="Is this computer very busy? Try again."
        ) from error
    if done.returncode:
        raise failure(argv[0], done.stderr or done.stdout, cwd=cwd)
    return done.stdout


def failure(program: str, said: str, *, cwd: Path | None = None) -> CloudError:
    """Return the error for a program that failed with this output."""
    words = [line for line in said.strip().splitlines() if line.strip()]
    last = "; ".join(words[-3:]) or "failed without output"
    if any(full in said for full in _FULL):
        return full_disk(cwd or Path.cwd(), last)
    return CloudError(
        f"{program}: {last}", next_step="Run the command again; if the error repeats, its output above gives the cause."
    )


@contextmanager
def as_cloud_errors(folder: Path) -> Iterator[None]:
    """Turn an OSError, such as a full disk or a missing permission, into a CloudError."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise full_disk(folder, what) from error
        if isinstance(error, TimeoutError):
            raise CloudError(what, next_step="Is the disk of this computer slow or busy? Try again.") from error
        raise CloudError(what, next_step=f"Can you write to {folder}? Try again.") from error


def full_disk(folder: Path, what: str, needed_bytes: int = 0) -> HostFullError:
    """Return the error for a full disk, with the free space and, if known, the space needed."""
    free_mb = free_bytes(folder) // 2**20
    needed = f", {needed_bytes // 2**20} MB needed" if needed_bytes else ""
    return HostFullError(
        f"the disk that holds {folder} is full: {free_mb} MB free{needed} ({what})",
        next_step="Free some space (for the size of old images: ./inv images), or set BAKEHOUSE_HOME to a folder on a larger disk.",
    )


def free_bytes(folder: Path) -> int:
    """Return how many bytes of the disk that holds a folder are free for us."""
    stats = os.statvfs(next(path for path in (folder, *folder.parents) if path.exists()))
    return stats.f_bavail * stats.f_frsize


def missing(program: str) -> MissingToolError:
    """Return the error for a program that is not installed."""
    return MissingToolError(f"{program} is not installed", next_step=advice())


def environment() -> dict[str, str]:
    """Return our environment, with the folders of system programs in PATH and messages in English."""
    path = os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")
    return {**os.environ, "PATH": f"{path}:{_SBIN}", "LC_ALL": "C"}
