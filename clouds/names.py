"""Names, versions and labels, and how they are written."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import secrets
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from packaging.version import InvalidVersion, Version

from clouds.client import Client, Fate, this_client
from clouds.errors import UsageError

PROJECT = "bakehouse"
LABEL_LENGTH_MAX = 63
"""GCE's limit for a label's value (cloud.google.com/compute/docs/labeling-resources); EC2 allows 256."""

CANDIDATE = "candidate"
STABLE = "stable"
DEPRECATED = "deprecated"
"""The states of an image, in its label `state`; a cloud reports the last one if the owner has deprecated the image there."""
FINDINGS = "findings"
"""The label of a candidate that is not sealed: how many findings it has (0: it was not searched); `N-final`: the recipe cannot
allow all of them, so it has to be baked anew."""


PINNED = "pinned"
"""The label of an image that its owner keeps: it is deleted only once it has been unpinned."""
REFRESHED = "refreshed"
"""The label of an image with the time of its packages that have no lock file, in seconds since the epoch."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_MACHINE_NAME = re.compile(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]{1,12}", re.ASCII)
_TICKS = re.compile(r"[0-9]{1,20}", re.ASCII)
SIZES = ("cpus", "memory-mb", "disk-gb")
"""The labels of an image with the size of its machines."""
_RESERVED = ("bake-", "test-")
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


@dataclass(frozen=True, slots=True, order=False)
class ImageVersion:
    """The version of an image: the release of Bakehouse that baked it, and a build number, written as `1.4.0-7`."""

    release: str
    build: int

    def __str__(self) -> str:
        return f"{self.release}-{self.build}"

    @property
    def key(self) -> Version:
        """The sort key. packaging reads `1.4.0-7` as a post-release; never print its str()."""
        return Version(str(self))


def parse_version(text: str) -> ImageVersion:
    """Read `1.4.0-7`. Raises UsageError with an example for anything else."""
    release, dash, build = text.rpartition("-")
    try:
        if len(text) > LABEL_LENGTH_MAX or not (dash and _NUMBER.fullmatch(build) and str(Version(release)) == release):
            raise InvalidVersion(text)
    except InvalidVersion:
        raise UsageError(
            f"invalid image version {text!r}", next_step="Write it as in the output of ./inv images, such as 1.4.0-7."
        ) from None
    return ImageVersion(release, int(build))


def release() -> str:
    """Return the version of Bakehouse (file VERSION), which is also the release of the images that it bakes."""
    return (Path(__file__).parents[1] / "VERSION").read_text(encoding="utf-8").strip()


def next_version(of_release: str, taken: Iterable[ImageVersion]) -> ImageVersion:
    """Return the next build of a release: one more than the highest that is taken."""
    return ImageVersion(of_release, 1 + max((version.build for version in taken if version.release == of_release), default=0))


def image_name(recipe: str, version: ImageVersion) -> str:
    """Return the name of an image, such as `jupyter-1.4.0-7`."""
    return f"{recipe}-{version}"


def new_bake_id() -> str:
    """Return a new id for a bake, such as `bake-k7m2px9a`; machine names cannot have this form."""
    return f"bake-{_random(8)}"


def new_machine_name(recipe: str) -> str:
    """Return a new name for a machine of a recipe, such as `jupyter-k7m2`."""
    return f"{recipe[:34].rstrip('-')}-{_random(4)}"


def test_machine_name(bake_id: str) -> str:
    """Return the name of the machine that tests the image of a bake."""
    return "test-" + bake_id.removeprefix("bake-")


def memory_machine_name(bake_id: str) -> str:
    """Return the name of the machine whose memory is saved with the image of a bake."""
    return f"{test_machine_name(bake_id)}-memory"


def is_bake_id(text: str) -> bool:
    """Return whether a text is the id of a bake, not the name of a machine."""
    return text.startswith("bake-")


def new_nonce() -> str:
    """Return 128 random bits in hexadecimal, for the markers of one boot."""
    return secrets.token_hex(16)


def is_name(text: str) -> bool:
    """Return whether a machine or an image can have this name; no driver looks up any other, such as a path."""
    return _NAME.fullmatch(text) is not None


def check_machine_name(name: str) -> str:
    """Return a user's name for a machine if it is valid on every cloud, else raise UsageError."""
    if not _MACHINE_NAME.fullmatch(name):
        raise UsageError(
            f"invalid machine name {name!r}",
            next_step="Use 1 to 40 of a-z, 0-9 and '-', starting with a letter and not ending with '-'.",
        )
    if name.startswith(_RESERVED):
        raise UsageError(
            f"invalid machine name {name!r}: the prefixes 'bake-' and 'test-' are reserved", next_step="Choose another name."
        )
    return name


def number(labels: Mapping[str, str], key: str) -> int:
    """Return a label's value as a whole number; 0 if it is not one: labels may have been changed with the cloud's own tools."""
    value = labels.get(key, "")
    return int(value) if _NUMBER.fullmatch(value) else 0


def version_of(labels: Mapping[str, str]) -> ImageVersion | None:
    """Return the version of an image, or None if its label is missing or damaged."""
    try:
        return parse_version(labels.get("version", ""))
    except UsageError:
        return None


def damaged(labels: Mapping[str, str]) -> str:
    """Return the first required label of a finished image that is missing or damaged; "" for none."""
    sizes = (key for key in SIZES if not number(labels, key))
    return next(sizes, "") if version_of(labels) else "version"


_BASE_ID_LENGTH = 32


def label_value(text: str) -> str:
    """Convert text to a label value that is valid on every cloud: at most 63 lower-case letters, digits, '-' and '_'."""
    return re.sub(r"[^a-z0-9_-]", "-", text.lower())[:LABEL_LENGTH_MAX]


def base_label(base: str) -> str:
    """Return the label value for the id of a base: the id if it is short, else a digest of it."""
    return label_value(base) if len(base) <= _BASE_ID_LENGTH else hashlib.sha256(base.encode()).hexdigest()[:_BASE_ID_LENGTH]


def is_base(label: str, base: str) -> bool:
    """Return whether a label value matches the id of a base; earlier releases truncated long ids instead of hashing them."""
    return label in (base_label(base), label_value(base[:_BASE_ID_LENGTH]))


def refreshed_label(time: str) -> dict[str, str]:
    """Return the label for the time (ISO 8601, in whole seconds) of packages without a lock file; none for ""."""
    return {REFRESHED: str(int(datetime.fromisoformat(time).timestamp()))} if time else {}


def refreshed(label: str) -> str:
    """Return the time that the label means; "" for none, or one that cannot be: labels may have been changed."""
    try:
        return datetime.fromtimestamp(int(label), UTC).isoformat() if _NUMBER.fullmatch(label) else ""
    except ValueError:  # after the year 9999
        return ""


def client_labels() -> dict[str, str]:
    """Return the labels of every resource that this process creates: its owner, and the process itself."""
    client = this_client()
    return {
        "project": PROJECT,
        "owner": label_value(os.environ.get("BAKEHOUSE_OWNER") or _login()),
        "client-host": label_value(socket.gethostname()),
        "client-computer": client.computer,
        "client-pid": str(client.pid),
        "client-start": str(client.start),
        "created": str(int(time.time())),
    }


def client_fate(labels: Mapping[str, str]) -> Fate:
    """Return whether the process that created a resource is alive, as far as this computer can see.

    Labels of older releases have only a host name, which other computers may have too, so the result is UNKNOWN.
    """
    pid, start = labels.get("client-pid", ""), labels.get("client-start", "")
    if not (_NUMBER.fullmatch(pid) and _TICKS.fullmatch(start)):
        return Fate.UNKNOWN
    return Client(labels.get("client-computer", ""), int(pid), int(start)).fate(made_at=number(labels, "created"))


def client_is_dead(labels: Mapping[str, str]) -> bool:
    """Return whether the process that created a resource is known to be dead; that of one elsewhere is unknown."""
    return client_fate(labels) is Fate.DEAD


def _login() -> str:
    """Return the login name; cron and containers have it in the user database alone."""
    if name := os.environ.get("USER") or os.environ.get("LOGNAME"):
        return name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid-{os.getuid()}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
