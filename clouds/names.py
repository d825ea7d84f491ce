"""Names, versions and labels. One place decides how each is written on each cloud."""

from __future__ import annotations

import calendar
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.version import InvalidVersion, Version

from clouds.errors import UsageError

PROJECT = "bakehouse"
LABEL_LENGTH_MAX = 63
"""GCE's limit for a label's value (cloud.google.com/compute/docs/labeling-resources); EC2 allows 256."""

CANDIDATE = "candidate"
STABLE = "stable"
DEPRECATED = "deprecated"
"""The states of an image, in its label `state`; the last is what a cloud says of one that its owner has put out of use there."""

_PROC = Path("/proc")
_PS_S = 30

_MACHINE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_RESERVED = ("bake-", "test-")
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True, order=False)
class ImageVersion:
    """The version of an image: the release of Bakehouse that baked it, and a build number. Written `1.4.0-7`."""

    release: str
    build: int

    def __str__(self) -> str:
        return f"{self.release}-{self.build}"

    @property
    def key(self) -> Version:
        """Sort by this. packaging reads `1.4.0-7` as a post-release; never print its str()."""
        return Version(str(self))

    @property
    def dashed(self) -> str:
        """The spelling for clouds whose names hold no dots: `1-4-0-7`."""
        return str(self).replace(".", "-")


def parse_version(text: str) -> ImageVersion:
    """Read `1.4.0-7`. Raises UsageError with an example for anything else."""
    release, dash, build = text.rpartition("-")
    try:
        if not (dash and build.isascii() and build.isdigit() and str(Version(release)) == release):
            raise InvalidVersion(text)
    except InvalidVersion:
        raise UsageError(
            f"version {text!r}: not a version of an image", next_step="Write it as `images` shows it, such as 1.4.0-7."
        ) from None
    return ImageVersion(release, int(build))


def release() -> str:
    """Return the version of Bakehouse, which is also the release of the images that it bakes (the file VERSION)."""
    return (Path(__file__).parents[1] / "VERSION").read_text(encoding="utf-8").strip()


def next_version(of_release: str, taken: Iterable[ImageVersion]) -> ImageVersion:
    """Return the first free build of a release: one past the highest that is taken."""
    return ImageVersion(of_release, 1 + max((version.build for version in taken if version.release == of_release), default=0))


def image_name(recipe: str, version: ImageVersion) -> str:
    """Return the name of an image, such as `jupyter-1.4.0-7`."""
    return f"{recipe}-{version}"


def new_bake_id() -> str:
    """Return a fresh id for a bake, such as `bake-k7m2px9a`; no machine may be called so."""
    return f"bake-{_random(8)}"


def new_machine_name(recipe: str) -> str:
    """Return a fresh name for a machine of a recipe, such as `jupyter-k7m2`."""
    return f"{recipe[:34].rstrip('-')}-{_random(4)}"


def test_machine_name(bake_id: str) -> str:
    """Return the name of the machine that tests the image of a bake."""
    return "test-" + bake_id.removeprefix("bake-")


def memory_machine_name(bake_id: str) -> str:
    """Return the name of the machine whose memory is frozen into the image of a bake."""
    return f"{test_machine_name(bake_id)}-memory"


def is_bake_id(text: str) -> bool:
    """Tell the id of a bake from the name of a machine."""
    return text.startswith("bake-")


def new_nonce() -> str:
    """Return 128 random bits in hexadecimal: what a true marker carries."""
    return secrets.token_hex(16)


def check_machine_name(name: str) -> str:
    """Return a name given by a user. Raises UsageError when no cloud would take it."""
    if not _MACHINE_NAME.fullmatch(name):
        raise UsageError(
            f"name {name!r}: not a name for a machine",
            next_step="Use 1 to 40 of a-z, 0-9 and '-', beginning with a letter and not ending with '-'.",
        )
    if name.startswith(_RESERVED):
        raise UsageError(f"name {name!r}: 'bake-' and 'test-' are kept for machines that bake", next_step="Choose another name.")
    return name


def label_value(text: str) -> str:
    """Return text as a label's value that every cloud takes: lower case, digits, '-' and '_', at most 63 of them."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LABEL_LENGTH_MAX]


def client_labels() -> dict[str, str]:
    """Return the labels that every resource made by this process carries: whose it is, and which process made it."""
    return {
        "project": PROJECT,
        "owner": label_value(os.environ.get("BAKEHOUSE_OWNER") or _login()),
        "client-host": label_value(socket.gethostname()),
        "client-pid": str(os.getpid()),
        "client-start": str(process_start(os.getpid())),
        "created": str(int(time.time())),
    }


def client_is_dead(labels: Mapping[str, str]) -> bool:
    """Say whether the process that made a resource ran on this host and is gone (pid and start time decide)."""
    if labels.get("client-host") != label_value(socket.gethostname()):
        return False
    pid = labels.get("client-pid", "")
    return pid.isdigit() and str(process_start(int(pid))) != labels.get("client-start")


def process_start(pid: int) -> int:
    """Return when a process started, in clock ticks since boot (proc_pid_stat(5), field 22); 0 when it is gone or a zombie.

    While threads of a zombie live (field 20), its files and ports are still open: it is not gone yet.
    Where there is no /proc (macOS) it is seconds since the epoch, as ps(1) prints them.
    """
    try:
        with (_PROC / f"{pid}/stat").open(encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return 0 if (_PROC / "self").exists() else _start_by_ps(pid)
    is_gone = fields[0] in "ZX" and int(fields[17]) <= 1
    return 0 if is_gone else int(fields[19])


def _start_by_ps(pid: int) -> int:
    """Return when a process started, in seconds since the epoch; 0 when it is gone or a zombie.

    The ps(1) of the BSDs, macOS and procps have both keywords; `lstart` is written as by asctime(3) in the locale C.
    """
    environment = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    command = ["ps", "-p", str(pid), "-o", "stat=", "-o", "lstart="]
    try:
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_PS_S, check=False).stdout
        state, *words = printed.split()
        return 0 if state.startswith("Z") else calendar.timegm(time.strptime(" ".join(words), "%a %b %d %H:%M:%S %Y"))
    except (OSError, ValueError, subprocess.TimeoutExpired):  # ValueError: ps has printed no process
        return 0


def _login() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or f"uid-{os.getuid()}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
