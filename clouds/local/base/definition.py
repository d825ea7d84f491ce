"""The definition of a base: what we decide about it. Its digest shows whether a stored base is still current."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from clouds.driver import Base
from clouds.errors import InvalidError

TEMPLATES = Path(__file__).resolve().parents[3] / "templates" / "base"
LAYOUT = 2
"""Increment this when the code that builds a disk changes its content."""

_ARCHITECTURES = ("amd64",)


@dataclass(frozen=True, slots=True)
class Distribution:
    """A distribution; `folder` of the templates has what differs, `keyring` is a file with its keys on this computer."""

    name: str
    folder: str
    components: str
    keyring: str = ""

    @property
    def sources(self) -> str:
        """The path of its sources of packages, in the tree."""
        return f"etc/apt/sources.list.d/{self.folder}.sources"


DEBIAN = Distribution("Debian", "debian", "main", keyring="/usr/share/keyrings/debian-archive-keyring.gpg")
UBUNTU = Distribution("Ubuntu", "ubuntu", "main universe")
"""Ubuntu's key is in its folder: Debian 12 has no package of it, other distributions have none either."""
SUITES = {"trixie": DEBIAN, "noble": UBUNTU}


@dataclass(frozen=True)
class Definition:
    """The recipe of a base: which distribution, which packages, which files of ours, which uv."""

    base: Base
    uv: Path
    templates: Path = TEMPLATES

    @property
    def distribution(self) -> Distribution:
        """The distribution of its suite."""
        return SUITES[self.base.suite]

    @property
    def _folders(self) -> tuple[Path, Path]:
        """The folders of templates: for this distribution, and for every one."""
        return self.templates / self.distribution.folder, self.templates

    @cached_property
    def files(self) -> dict[str, Path]:
        """Our files for the tree, by their path there."""
        roots = [folder / "root" for folder in self._folders]
        return {str(path.relative_to(root)): path for root in roots for path in sorted(root.rglob("*")) if path.is_file()}

    @cached_property
    def packages(self) -> tuple[str, ...]:
        """The packages that we name, and those of the base; their dependencies come from the mirror."""
        lines = [line for folder in self._folders for line in (folder / "packages").read_text(encoding="utf-8").splitlines()]
        ours = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
        return (*ours, *(package for package in self.base.packages if package not in ours))

    @property
    def signed_by(self) -> str:
        """The keys of the distribution, as the value of Signed-By: a file's path, or the text of a key (sources.list(5))."""
        if self.distribution.keyring:
            return self.distribution.keyring
        lines = (self._folders[0] / "archive-key.asc").read_text(encoding="utf-8").splitlines()
        return "".join(f"\n {line or '.'}" for line in lines)

    @property
    def sources(self) -> str:
        """The sources of packages in the base, as apt reads them there."""
        text = self.files[self.distribution.sources].read_text(encoding="utf-8")
        return text.replace("@SUITE@", self.base.suite)  # as `customize` does

    @cached_property
    def digest(self) -> str:
        """Return a digest of everything that we decide; the mirror decides the versions of packages."""
        total = hashlib.sha256(f"{LAYOUT} {self.base.suite} {self.base.architecture}\n".encode())
        others = {one.folder for one in SUITES.values()} - {self.distribution.folder}
        for path in sorted(self.templates.rglob("*")):
            if path.is_file() and path.relative_to(self.templates).parts[0] not in others:
                mode = path.stat().st_mode & 0o111
                total.update(f"{path.relative_to(self.templates)} {bool(mode)} {_sha256(path)}\n".encode())
        total.update(f"uv {_uv_version(self.uv)}\n".encode())
        if self.base.packages:
            total.update(f"packages {' '.join(self.base.packages)}\n".encode())
        return total.hexdigest()


def define(base: Base) -> Definition:
    """Return the definition of a base. InvalidError: not supported."""
    if base.suite not in SUITES or base.architecture not in _ARCHITECTURES:
        raise InvalidError(
            f"base {base.suite}/{base.architecture} is not supported by the local cloud",
            next_step=f"Choose suite {' or '.join(SUITES)} and architecture {' or '.join(_ARCHITECTURES)}.",
        )
    return Definition(base, _uv())


def base_id(digest: str, packages: str) -> str:
    """Return the id of a base: a digest of its definition and its installed packages (`name version` per line)."""
    return "base-" + hashlib.sha256(f"{digest}\n{packages}".encode()).hexdigest()[:24]


def _uv() -> Path:
    from uv import find_uv_bin

    return Path(find_uv_bin())


def _uv_version(binary: Path) -> str:
    """Return a string that identifies the uv binary, without running or reading it."""
    from importlib.metadata import version

    return f"{version('uv')} {binary.stat().st_size}"


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
