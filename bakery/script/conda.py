"""Solve the conda packages of a recipe on this computer with rattler, the conda ecosystem's solver as a library.

The solution is a lock: the URL and the SHA-256 of each file that the builder installs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.version import VERSION_PATTERN

from bakery.errors import RecipeError
from bakery.recipe import conda_steps
from bakery.recipe.recipe import Conda, Recipe
from bakery.script.channels import channel_urls, plain
from bakery.script.pins import Pin
from bakery.script.uv_settings import has_credentials
from clouds.errors import BakehouseError

if TYPE_CHECKING:
    from rattler import Gateway, RepoDataRecord
    from rattler.platform.subdir import SubdirLiteral

_PLATFORMS: tuple[SubdirLiteral, ...] = ("linux-64", "noarch")
_OTHERS: tuple[SubdirLiteral, ...] = ("osx-arm64", "osx-64", "win-64", "linux-aarch64")
_SYSTEMS = {
    "trixie": {"__glibc": "2.41", "__linux": "6.12", "__unix": "0", "__archspec": "1"},
    "noble": {"__glibc": "2.39", "__linux": "6.8", "__unix": "0", "__archspec": "1"},
}
"""The virtual packages of each suite, as conda finds them there (packages.debian.org/libc6, packages.ubuntu.com/noble/libc6)."""
LIMIT_S = 600.0
"""How long channels may take to send their indexes, in seconds: those of conda-forge have some 100 MB."""
_VERSION = re.compile(VERSION_PATTERN, re.VERBOSE | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Package:
    """A conda package: the URL of its file, and its SHA-256."""

    url: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Lock:
    """What a builder installs into the conda environment: conda packages, then Python packages with uv."""

    packages: tuple[Package, ...] = ()
    pip: tuple[Pin, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "packages": [[one.url, one.sha256] for one in self.packages],
            "pip": [[one.requirement, list(one.hashes)] for one in self.pip],
        }


def from_json(found: Mapping[str, Any]) -> Lock:
    """Return the lock that `to_json` has given."""
    pip = tuple(Pin(requirement, tuple(hashes)) for requirement, hashes in found["pip"])
    return Lock(tuple(Package(*one) for one in found["packages"]), pip)


@dataclass(frozen=True, slots=True)
class WantedConda:
    """What the conda step of a recipe asks for; `channels` are URLs."""

    step: str
    packages: tuple[str, ...]
    pip: tuple[str, ...]
    channels: tuple[str, ...]
    suite: str

    def needs(self) -> list[Any]:
        """Return as plain data what decides the solution."""
        return [self.step, list(self.packages), list(self.pip), list(self.channels), _SYSTEMS[self.suite]]


@dataclass(frozen=True, slots=True)
class Solution:
    """Solved packages, and the version of each by its name."""

    packages: tuple[Package, ...]
    versions: Mapping[str, str]

    @property
    def constraints(self) -> list[str]:
        """The packages as constraints for uv, as far as their versions are also versions of Python packages."""
        return [f"{name}=={version}" for name, version in self.versions.items() if name[0] != "_" and _VERSION.fullmatch(version)]

    @property
    def python(self) -> str:
        """The version of Python in it, such as 3.13; "" if it has none."""
        return ".".join(self.versions.get("python", "").split(".")[:2])


def gather(recipe: Recipe) -> WantedConda | None:
    """Return what the conda step of a recipe asks for, or None. RecipeError: its environment file can no longer be read."""
    for step in recipe.steps:
        if step.conda:
            file = _file(recipe, step.name, step.conda)
            channels = channel_urls(step.conda.channels or file.channels, os.environ)
            packages = step.conda.packages or file.packages
            return WantedConda(step.name, packages, file.pip, tuple(channels), recipe.base.suite)
    return None


def _file(recipe: Recipe, step: str, conda: Conda) -> conda_steps.Environment:
    if not conda.environment:
        return conda_steps.Environment()
    file, problems = conda_steps.read(recipe.folder, conda.environment)
    if problems:
        raise RecipeError([f"recipe {recipe.name!r}: step {step!r}: {conda.environment}: {problem}" for problem in problems])
    return file


def solve(recipe: Recipe, wanted: WantedConda, cache: Path) -> Solution:
    """Return the packages that a step asks for, with what they depend on, for the system of the recipe's base.

    Raises RecipeError with rattler's explanation if no set of packages fits, and BakehouseError if a channel cannot be read.
    """
    import asyncio

    import rattler
    from rattler.exceptions import GatewayError, SolverError
    from rattler.networking import Client, RetryMiddleware
    from rattler.package import BuildString

    where = f"recipe {recipe.name!r}: step {wanted.step!r}"
    gateway = rattler.Gateway(cache_dir=cache, client=Client([RetryMiddleware(2)]))
    system = [
        rattler.GenericVirtualPackage(
            rattler.PackageName(name), rattler.Version(version), BuildString("x86_64" if name == "__archspec" else "0")
        )
        for name, version in _SYSTEMS[wanted.suite].items()
    ]
    try:
        specs = [rattler.MatchSpec(text) for text in _checked(where, wanted.packages)]
        solving = rattler.solve(wanted.channels, specs, gateway, _PLATFORMS, virtual_packages=system)
        records = asyncio.run(asyncio.wait_for(solving, LIMIT_S))
    except SolverError as error:
        elsewhere = _elsewhere(gateway, wanted)
        explained = [line for line in str(error).removeprefix("Cannot solve the request because of: ").splitlines() if line]
        reason = plain("\n  ".join(["no set of conda packages fits (write packages that exist together)", *explained, *elsewhere]))
        raise RecipeError([f"{where}: {reason}"]) from None
    except (GatewayError, TimeoutError) as error:
        told = str(error) or f"no complete answer within {LIMIT_S:g} s from {', '.join(wanted.channels)}"
        reason = "; ".join(line.removeprefix("Caused by: ") for line in plain(told).splitlines())
        raise BakehouseError(
            f"{where}: cannot read a conda channel: {reason}",
            next_step="Check the channels of the recipe or of .condarc, and the network. Resolved packages need no network.",
        ) from None
    return _solution(where, records)


def _checked(where: str, packages: Iterable[str]) -> list[str]:
    """Return conda packages as the recipe names them. RecipeError: one cannot be read."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    problems = []
    for text in packages:
        try:
            MatchSpec(text)
        except InvalidMatchSpecError as error:
            problems.append(f'{where}: package {plain(text)!r}: {error} (write one such as "r-base" or "numpy>=2")')
    if problems:
        raise RecipeError(problems)
    return list(packages)


def _elsewhere(gateway: Gateway, wanted: WantedConda) -> list[str]:
    """Return, for each package that these channels have for other systems only, a line that says so."""
    import asyncio

    from rattler import MatchSpec
    from rattler.exceptions import GatewayError

    lines = []
    for text in wanted.packages:
        name = MatchSpec(text).name.normalized
        try:
            found = []
            for platforms in (_PLATFORMS[:1], _OTHERS):
                query = gateway.query(wanted.channels, [*platforms, "noarch"], [name], recursive=False)
                found.append(asyncio.run(asyncio.wait_for(query, LIMIT_S)))
        except (GatewayError, TimeoutError):
            continue
        ours, others = (sorted({record.subdir for listed in one for record in listed}) for one in found)
        if others and not ours:
            lines.append(f"{name} exists only for {', '.join(others)}, but the machine is linux-64")
    return lines


def _solution(where: str, records: Sequence[RepoDataRecord]) -> Solution:
    problems = []
    for record in records:
        if not record.sha256:
            problems.append(f"{where}: package {plain(record.url)}: its channel has no SHA-256 (use another channel)")
        if has_credentials(record.url) or plain(record.url) != record.url:
            problems.append(f"{where}: package {plain(record.url)}: its password would stay in the log (use another channel)")
    if problems:
        raise RecipeError(problems)
    packages = tuple(Package(one.url, one.sha256.hex()) for one in sorted(records, key=lambda one: one.url) if one.sha256)
    return Solution(packages, {record.name.normalized: str(record.version) for record in records})
