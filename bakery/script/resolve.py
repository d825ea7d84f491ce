"""Which versions a recipe's packages have: resolved on this computer, before any machine is booted, and kept.

With the version of a package come the hashes of its files (`bakery.script.pins`), so that a bake installs what was
resolved, or fails.
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
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

from bakery.errors import RecipeError
from bakery.recipe.recipe import Recipe
from bakery.script.pins import Pin, read_lock, write_lock
from clouds.errors import BakehouseError, MissingToolError, UsageError
from clouds.home import write_private

PYTHON_OF = {"trixie": "3.13", "noble": "3.12"}
"""The version of Python in each suite (packages.debian.org/python3, packages.ubuntu.com/python3)."""

_TIMEOUT_S = 600
_UV_UNSATISFIABLE = 1
"""uv's exit status when no set of versions fits; 2 stands for anything else, such as no network."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The exact Python packages of each python step, and when what has no lock file (apt, conda) was last refreshed.

    `hashes` holds those of the files of each package (`sha256:...`); none of one that is named by its commit.
    """

    pins: Mapping[str, tuple[str, ...]]
    refreshed: str = ""
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def resolve(recipe: Recipe, folder: Path, *, refresh: bool, keep: bool = True) -> Resolution:
    """Return the versions of a recipe's packages, from `folder` where they are kept; new ones are kept there if `keep` says so.

    Raises RecipeError, which names step and package, when there is no such package or no versions fit together, and
    BakehouseError when a network is needed and there is none.
    """
    kept_at = folder / f"{recipe.name}.json"
    wanted = {step.name: step.python.packages for step in recipe.steps if step.python}
    needs = {"python": PYTHON_OF[recipe.base.suite], "packages": [[name, list(wanted[name])] for name in wanted]}
    kept = _read(kept_at)
    if not refresh and kept and kept["needs"] == needs and "hashes" in kept:  # those of an older release have none
        return _resolution(recipe, kept)
    preferred = [] if refresh or not kept else [pin for pins in kept["pins"].values() for pin in pins]
    pins = _pin(recipe, wanted, preferred, folder / "cache") if wanted else {}
    found = {
        **(kept or {}),  # what another release has added
        "needs": needs,
        "pins": {name: [pin.requirement for pin in ours] for name, ours in pins.items()},
        "hashes": {pin.requirement: list(pin.hashes) for ours in pins.values() for pin in ours},
        "refreshed": datetime.now(UTC).isoformat() if refresh or not kept else kept["refreshed"],
    }
    if keep:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(kept_at, json.dumps(found, indent=1) + "\n")
    return _resolution(recipe, found)


def _resolution(recipe: Recipe, kept: Mapping[str, Any]) -> Resolution:
    is_unlocked = any(step.is_unlocked for step in recipe.steps)
    pins = {name: tuple(pins) for name, pins in kept["pins"].items()}
    hashes = {pin: tuple(found) for pin, found in kept["hashes"].items()}
    return Resolution(pins, kept["refreshed"] if is_unlocked else "", hashes)


def _read(path: Path) -> dict[str, Any] | None:
    """Return what was kept, or None; a file that an older release or a crash left is as good as none."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) and {"needs", "pins", "refreshed"} <= set(kept) else None
    except (OSError, ValueError):
        return None


def _check_settings(environ: Mapping[str, str]) -> None:
    """Raise UsageError where the user's uv.toml leaves packages out of what is resolved: no option of uv brings them back.

    Where uv looks for it: docs.astral.sh/uv/concepts/configuration-files
    """
    if environ.get("UV_NO_CONFIG", "").lower() in ("1", "true", "yes", "on"):
        return
    own = Path(environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    shared = [Path(folder) for folder in (environ.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    named = environ.get("UV_CONFIG_FILE")
    files = [Path(named)] if named else [folder / "uv/uv.toml" for folder in (own, *shared, Path("/etc"))]
    for file in files:
        try:
            hidden = tomllib.loads(file.read_text(encoding="utf-8")).get("pip", {}).get("no-emit-package")
        except (OSError, ValueError, AttributeError):
            continue  # absent, or uv itself says what is wrong with it
        if hidden:
            raise UsageError(
                f"{file}: pip.no-emit-package: leaves {', '.join(map(str, hidden))} out of every image (remove it)",
                next_step="Or resolve without your settings of uv: UV_NO_CONFIG=1",
            )


def _pin(recipe: Recipe, wanted: Mapping[str, Sequence[str]], preferred: Sequence[str], cache: Path) -> dict[str, list[Pin]]:
    """Return the pins of each step: all steps are resolved together, and each gets what those before it lack."""
    _check_settings(os.environ)
    compiler = _Compiler(recipe, wanted, cache)
    everything = compiler.compile([package for packages in wanted.values() for package in packages], preferred=preferred)
    if local := [pin for pin in everything if pin.path]:
        raise RecipeError([_of_this_computer(recipe, wanted, pin) for pin in local])
    pins: dict[str, list[Pin]] = {}
    so_far: list[str] = []
    for name, packages in wanted.items():
        so_far += packages
        is_last = name == list(wanted)[-1]
        reached = everything if is_last else compiler.compile(so_far, constraints=[pin.requirement for pin in everything])
        before = {pin.requirement for earlier in pins.values() for pin in earlier}
        pins[name] = [pin for pin in reached if pin.requirement not in before]
    return pins


def _of_this_computer(recipe: Recipe, wanted: Mapping[str, Sequence[str]], pin: Pin) -> str:
    name = pin.requirement.partition(" @ ")[0]
    asks = (
        step for step, packages in wanted.items() if name in {str(canonicalize_name(Requirement(one).name)) for one in packages}
    )
    where = f"recipe {recipe.name}: step {next(asks, ', '.join(wanted))}: package {name}"
    return f"{where}: {pin.path} is on this computer, where no builder can read it (write a version, or a web address)"


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`uv pip compile` for a recipe."""

    recipe: Recipe
    wanted: Mapping[str, Sequence[str]]
    cache: Path

    def compile(self, packages: Sequence[str], *, preferred: Sequence[str] = (), constraints: Sequence[str] = ()) -> list[Pin]:
        """Return a pin for each package that these need."""
        with tempfile.TemporaryDirectory(prefix="bakehouse-") as folder:
            for name, lines in (("wanted.in", packages), ("constraints.txt", constraints)):
                Path(folder, name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            lock = Path(folder, "pylock.toml")
            lock.write_text(write_lock(preferred), encoding="utf-8")
            command = [
                *(find_uv_bin(), "pip", "compile", "wanted.in", "--output-file", lock.name, "--constraints", "constraints.txt"),
                *("--python-version", PYTHON_OF[self.recipe.base.suite], "--python-platform", "x86_64-unknown-linux-gnu"),
                *("--python", sys.executable, "--quiet", "--cache-dir", str(self.cache), "--format", "pylock.toml"),
                *("--no-universal", "--deps"),  # whatever the user's uv.toml says
            ]
            self._run(command, folder)
            try:
                return read_lock(lock.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BakehouseError(
                    f"recipe {self.recipe.name}: what uv has resolved cannot be read: {type(error).__name__}: {error}",
                    next_step="Look into uv's settings (uv.toml, UV_ variables) for one that changes its output, and remove it.",
                ) from error

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
            raise MissingToolError("uv is not installed", next_step="Remove .venv, and make it anew: ./inv --list") from error
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
