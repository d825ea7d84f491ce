"""The result of uv's resolution: exact packages with the hashes of the files that may be installed.

uv writes pylock.toml (packaging.python.org/en/latest/specifications/pylock-toml/), whose format does not depend on a user's
uv.toml, unlike requirements.txt (annotations, index URLs, markers). It lists only the wheels that fit the builder.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

_HEAD = 'lock-version = "1.0"\ncreated-by = "bakehouse"\n'


@dataclass(frozen=True, slots=True)
class Pin:
    """One requirement in pip's syntax, such as `numpy==2.4.0` or `name @ URL`, and the hashes of its files (`sha256:...`).

    A package from a repository has a commit instead of hashes. `path` is set if the package is a file or folder on this computer,
    or `source`, relative to the recipe's folder, if it is beside the recipe. A folder may be editable. `urls` are the addresses of
    a version's files.
    """

    requirement: str
    hashes: tuple[str, ...] = ()
    path: str = ""
    source: str = ""
    is_editable: bool = False
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The normalized name of the package."""
        return re.split("==| @ ", self.requirement, maxsplit=1)[0]


_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(==[A-Za-z0-9][A-Za-z0-9.!+_-]*| @ [^\s;'\"\\]+)")
"""What a script may install: an exact version, or a URL."""


RMATE = Pin("rmate==1.0.3", ("sha256:0f6e00d846b488b93d757b901a40788fec272cce3a8f91e6beb2d95afa2b4086",))
"""The program for `rsub`, a script in Python, unchanged since 2016; Debian has no package of it."""


def read_lock(text: str) -> list[Pin]:
    """Return the packages of a pylock.toml, in its order. ValueError, KeyError or TypeError: not a valid file."""
    return [checked(pin_of(package)) for package in tomllib.loads(text).get("packages", ())]


def checked(pin: Pin) -> Pin:
    """Raise ValueError for a pin that is not exact, or whose files have no hashes."""
    is_named = not pin.path  # otherwise it is refused for its path
    if is_named and not _REQUIREMENT.fullmatch(pin.requirement):
        raise ValueError(f"{pin.requirement!r} is neither NAME==VERSION nor NAME @ URL")
    is_commit = re.search(r" @ (git|hg|svn|bzr)\+", pin.requirement)
    if is_named and not is_commit and not all(re.fullmatch(r"\w+:[0-9a-f]{32,}", one) for one in pin.hashes or ("",)):
        raise ValueError(f"{pin.requirement!r} has no hash")
    return pin


@cache
def own_pin(name: str) -> Pin:
    """Return the requirement for a package in the version used here, with its hashes from our lock file."""
    requirement = f"{name}=={version(name)}"
    lock = (Path(__file__).parents[2] / "requirements.lock").read_text(encoding="utf-8")
    _, _, rest = lock.partition(f"\n{requirement} \\\n")
    entry = re.match(r"(?: +--hash=\S+(?: \\)?\n)*", rest)
    return Pin(requirement, tuple(re.findall(r"--hash=(\S+)", entry[0] if entry else "")))


def write_lock(requirements: Iterable[str]) -> str:
    """Return a pylock.toml that makes uv prefer these versions; requirements other than `name==version` are left out."""
    pairs = (requirement.split("==") for requirement in requirements if "==" in requirement and "@" not in requirement)
    tables = [f"\n[[packages]]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\n" for name, version in pairs]
    return _HEAD + ("".join(tables) or "packages = []\n")


def pin_of(package: Mapping[str, Any]) -> Pin:
    """Return the pin of a package, a table in a pylock.toml."""
    name = package["name"]
    if "vcs" in package:
        return _of_repository(name, package["vcs"])
    if "directory" in package:
        return Pin(name, path=package["directory"]["path"], is_editable=package["directory"].get("editable", False))
    if "archive" in package:
        archive = package["archive"]
        inside = f"#subdirectory={archive['subdirectory']}" if "subdirectory" in archive else ""
        url = archive.get("url", "")
        path = archive.get("path", "") or (url if url.startswith("file:") else "")
        return Pin(f"{name} @ {url}{inside}", _hashes([archive]), path)
    files = package.get("wheels") or [package["sdist"]]
    return Pin(f"{name}=={package['version']}", _hashes(files), urls=tuple(file.get("url", "") for file in files))


def _of_repository(name: str, vcs: Mapping[str, str]) -> Pin:
    inside = f"#subdirectory={vcs['subdirectory']}" if "subdirectory" in vcs else ""
    return Pin(f"{name} @ {vcs['type']}+{vcs.get('url', '')}@{vcs['commit-id']}{inside}", path=vcs.get("path", ""))


def _hashes(files: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(sorted({f"{kind}:{value}" for file in files for kind, value in file["hashes"].items()}))
