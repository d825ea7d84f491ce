"""Solve the conda packages of a recipe on this computer with rattler, the conda ecosystem's solver, in a process of its own.

The solution is a lock: the URL and the SHA-256 of each file that the builder installs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.version import VERSION_PATTERN

from bakery.errors import RecipeError
from bakery.recipe import conda_steps
from bakery.recipe.credentials import plain
from bakery.recipe.recipe import Conda, Recipe
from bakery.script.channels import channel_urls
from bakery.script.pins import Pin
from clouds.errors import BakehouseError
from clouds.locks import report

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
            where = f"recipe {recipe.name!r}: step {step.name!r}"
            channels = channel_urls(where, step.conda.channels or file.channels, os.environ)
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
    where = f"recipe {recipe.name!r}: step {wanted.step!r}"
    report(f"{where}: reading {', '.join(wanted.channels)} for its conda packages")
    request = {"channels": wanted.channels, "packages": wanted.packages, "system": _SYSTEMS[wanted.suite]}
    answer = _answer(where, {**request, "limit_s": LIMIT_S, "cache": str(cache.absolute())})
    if invalid := answer.get("invalid"):
        instead = 'write one such as "r-base" or "numpy>=2"'
        raise RecipeError([f"{where}: package {plain(text)!r}: {reason} ({instead})" for text, reason in invalid])
    if "unsolvable" in answer:
        reason = "\n  ".join(["no set of conda packages fits (write packages that exist together)", *answer["unsolvable"]])
        raise RecipeError([f"{where}: {plain(reason)}"])
    if "unreadable" in answer:
        told = answer["unreadable"] or f"no complete answer within {LIMIT_S:g} s from {', '.join(wanted.channels)}"
        reason = "; ".join(line.removeprefix("Caused by: ") for line in plain(told).splitlines())
        raise BakehouseError(
            f"{where}: cannot read a conda channel: {reason}",
            next_step="Check the channels (recipe, environment file, .condarc) and the network. Resolved packages need no network.",
        )
    return _solution(where, answer["packages"])


def _answer(where: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """Return the answer of `bakery.script.conda_process`. BakehouseError: it failed, or was killed (memory, say)."""
    command = [sys.executable, "-I", str(Path(__file__).with_name("conda_process.py"))]
    limit_s = 3 * LIMIT_S + 60  # it sends up to three requests
    try:
        done = subprocess.run(command, input=json.dumps(request), capture_output=True, text=True, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"unreadable": ""}
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        said = (plain(done.stderr).strip().splitlines() or ["no message"])[-1]
        raise BakehouseError(
            f"{where}: the solver of conda packages failed (exit status {done.returncode}): {said}",
            next_step="Run it again with more free memory. If it fails again, delete .venv, and create it again: ./inv --list",
        ) from None


def _solution(where: str, files: Iterable[tuple[str, str, str, str]]) -> Solution:
    problems, packages, versions = [], [], {}
    for url, sha256, name, version in sorted(files):
        if not sha256:
            problems.append(f"{where}: package {plain(url)}: its channel has no SHA-256 (use another channel)")
        if plain(url) != url:
            problems.append(f"{where}: package {plain(url)}: its password would stay in the log (use another channel)")
        packages.append(Package(url, sha256))
        versions[name] = version
    if problems:
        raise RecipeError(problems)
    return Solution(tuple(packages), versions)
