"""Which versions a recipe's packages have: resolved on this computer, before any machine is booted, and kept.

Kept resolutions (one JSON file for each recipe in BAKEHOUSE_HOME/resolved) make an equal digest knowable without a
network. They are used until `refresh` asks anew, or until the recipe asks for other packages; then what still fits
stays as it was.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from bakery.recipe import Recipe
from clouds.errors import BakehouseError, MissingToolError, RecipeError
from clouds.home import write_private

PYTHON_OF = {"trixie": "3.13", "noble": "3.12"}
"""The version of Python in each suite (packages.debian.org/python3, packages.ubuntu.com/python3)."""

_TIMEOUT_S = 600
_UV_UNSATISFIABLE = 1
"""uv's exit status when no set of versions fits; 2 stands for anything else, such as no network."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The exact Python packages of each python step, and when what has no lock file (apt, conda) was last refreshed."""

    pins: Mapping[str, tuple[str, ...]]
    refreshed: str = ""


def resolve(recipe: Recipe, folder: Path, *, refresh: bool, keep: bool = True) -> Resolution:
    """Return the versions of a recipe's packages, from `folder` where they are kept; new ones are kept there if `keep` says so.

    Raises RecipeError, which names step and package, when there is no such package or no versions fit together, and
    BakehouseError when a network is needed and there is none.
    """
    kept_at = folder / f"{recipe.name}.json"
    wanted = {step.name: step.python.packages for step in recipe.steps if step.python}
    needs = {"python": PYTHON_OF[recipe.base.suite], "packages": [[name, list(wanted[name])] for name in wanted]}
    kept = _read(kept_at)
    if not refresh and kept and kept["needs"] == needs:
        return _resolution(recipe, kept)
    preferred = [] if refresh or not kept else [pin for pins in kept["pins"].values() for pin in pins]
    found = {
        **(kept or {}),  # what another release has added
        "needs": needs,
        "pins": _pin(recipe, wanted, preferred, folder / "cache") if wanted else {},
        "refreshed": datetime.now(UTC).isoformat() if refresh or not kept else kept["refreshed"],
    }
    if keep:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(kept_at, json.dumps(found, indent=1) + "\n")
    return _resolution(recipe, found)


def _resolution(recipe: Recipe, kept: Mapping[str, Any]) -> Resolution:
    is_unlocked = any(step.is_unlocked for step in recipe.steps)
    pins = {name: tuple(pins) for name, pins in kept["pins"].items()}
    return Resolution(pins, kept["refreshed"] if is_unlocked else "")


def _read(path: Path) -> dict[str, Any] | None:
    """Return what was kept, or None; a file that an older release or a crash left is as good as none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) and {"needs", "pins", "refreshed"} <= set(kept) else None
    except (OSError, ValueError):
        return None


def _pin(recipe: Recipe, wanted: Mapping[str, Sequence[str]], preferred: Sequence[str], cache: Path) -> dict[str, list[str]]:
    """Return the pins of each step: all steps are resolved together, and each gets what those before it lack."""
    compiler = _Compiler(recipe, wanted, cache)
    everything = compiler.compile([package for packages in wanted.values() for package in packages], preferred=preferred)
    pins: dict[str, list[str]] = {}
    so_far: list[str] = []
    for name, packages in wanted.items():
        so_far += packages
        is_last = name == list(wanted)[-1]
        reached = everything if is_last else compiler.compile(so_far, constraints=everything)
        before = {pin for earlier in pins.values() for pin in earlier}
        pins[name] = [pin for pin in reached if pin not in before]
    return pins


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`uv pip compile` for a recipe."""

    recipe: Recipe
    wanted: Mapping[str, Sequence[str]]
    cache: Path

    def compile(self, packages: Sequence[str], *, preferred: Sequence[str] = (), constraints: Sequence[str] = ()) -> list[str]:
        """Return one `name==version` for each package that these need."""
        with tempfile.TemporaryDirectory(prefix="bakehouse-") as folder:
            for name, lines in (("wanted.in", packages), ("pins.txt", preferred), ("constraints.txt", constraints)):
                Path(folder, name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            command = [
                *(find_uv_bin(), "pip", "compile", "wanted.in", "--output-file", "pins.txt", "--constraints", "constraints.txt"),
                *("--python-version", PYTHON_OF[self.recipe.base.suite], "--python-platform", "x86_64-unknown-linux-gnu"),
                *("--python", sys.executable, "--no-header", "--no-annotate", "--quiet", "--cache-dir", str(self.cache)),
            ]
            self._run(command, folder)
            return Path(folder, "pins.txt").read_text(encoding="utf-8").splitlines()

    def _run(self, command: Sequence[str], folder: str) -> None:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except FileNotFoundError as error:
            raise MissingToolError("uv is not installed", next_step="Remove .venv and start again: ./inv makes it anew.") from error
        except subprocess.TimeoutExpired as error:
            raise BakehouseError(
                f"recipe {self.recipe.name}: the package index did not answer within {_TIMEOUT_S} s", next_step="Try again."
            ) from error
        if done.returncode:
            raise self._error(done.returncode, done.stderr.strip())

    def _error(self, status: int, said: str) -> BakehouseError:
        is_offline = "network was disabled" in said
        if status == _UV_UNSATISFIABLE and not is_offline:
            reason = said.partition("cause: ")[2].partition("\n")[0] or said
            return RecipeError(
                [f"recipe {self.recipe.name}: step {self._blamed(said)}: {reason} (write a package and versions that exist)"]
            )
        return BakehouseError(
            f"recipe {self.recipe.name}: the versions of its Python packages could not be looked up:\n{said}",
            next_step="Check the network and uv's settings (UV_DEFAULT_INDEX, proxies). What is resolved once needs no network.",
        )

    def _blamed(self, said: str) -> str:
        """Return the step whose package the message names, else all python steps."""
        words = set(said.replace(",", " ").split())
        for step, packages in self.wanted.items():
            for package in packages:
                name = canonicalize_name(Requirement(package).name)
                if any(
                    word == name or word.startswith((f"{name}=", f"{name}<", f"{name}>", f"{name}!", f"{name}~")) for word in words
                ):
                    return f"{step}: package {name}"
        return ", ".join(self.wanted)
