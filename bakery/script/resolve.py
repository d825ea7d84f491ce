"""Resolve the versions of a recipe's packages on this computer, before any machine boots, and store them.

Each version includes the hashes of its files (`bakery.script.pins`), so that a bake installs exactly what was resolved, or fails.
With stored resolutions (a JSON file per recipe in BAKEHOUSE_HOME/resolved) the digest can be computed without a network. They are
used until `refresh`, or until the recipe's packages change; then versions that still fit are kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
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
from bakery.script import uv_settings
from bakery.script.pins import Pin, read_lock, write_lock
from clouds.errors import BakehouseError, MissingToolError
from clouds.home import write_private

PYTHON_OF = {"trixie": "3.13", "noble": "3.12"}
"""The version of Python in each suite (packages.debian.org/python3, packages.ubuntu.com/python3)."""

_TIMEOUT_S = 600
_UV_UNSATISFIABLE = 1
"""uv's exit status if no set of versions fits; 2 means any other failure, such as no network."""
_EXPLAINING_LINES = 25


@dataclass(frozen=True, slots=True)
class Resolution:
    """The exact Python packages of each python step, and the time of the last refresh of packages without a lock file.

    `hashes` maps a requirement to the hashes of its files (`sha256:...`); none for a package from a repository.
    """

    pins: Mapping[str, tuple[str, ...]]
    refreshed: str = ""
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def resolve(recipe: Recipe, folder: Path, *, refresh: bool, keep: bool = True) -> Resolution:
    """Return the versions of a recipe's packages, from `folder` if stored there; with `keep`, store new ones.

    Raises RecipeError, with step and package, if a package does not exist or no set of versions fits, and BakehouseError if the
    package index cannot be reached.
    """
    kept_at = folder / f"{recipe.name}.json"
    wanted = {step.name: step.python.packages for step in recipe.steps if step.python}
    needs: dict[str, Any] = {
        "python": PYTHON_OF[recipe.base.suite],
        "packages": [[name, list(wanted[name])] for name in wanted],
    }
    if wanted and (settings := uv_settings.fingerprint(os.environ)):
        needs["settings"] = settings
    kept = _read(kept_at)
    if not refresh and kept and kept["needs"] == needs and "hashes" in kept:  # older releases stored none
        return _resolution(recipe, kept)
    is_new = refresh or not kept or kept["needs"].get("settings") != needs.get("settings")
    preferred = [] if is_new or not kept else [pin for pins in kept["pins"].values() for pin in pins]
    pins = _pin(recipe, wanted, preferred, folder / "cache") if wanted else {}
    found = {
        **(kept or {}),  # keep fields of other releases
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
    """Return the stored resolution, or None; also None if it is from an older release or damaged."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return kept if isinstance(kept, dict) and {"needs", "pins", "refreshed"} <= set(kept) else None
    except (OSError, ValueError):
        return None


def _pin(recipe: Recipe, wanted: Mapping[str, Sequence[str]], preferred: Sequence[str], cache: Path) -> dict[str, list[Pin]]:
    """Return the pins of each step: all steps are resolved together, and each gets what earlier steps do not install."""
    uv_settings.check(os.environ)
    compiler = _Compiler(recipe, wanted, cache)
    everything = compiler.compile([package for packages in wanted.values() for package in packages], preferred=preferred)
    if secret := [pin for pin in everything if uv_settings.has_credentials(pin.requirement)]:
        raise RecipeError([_of_secret(recipe, wanted, pin) for pin in secret])
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


def _of_secret(recipe: Recipe, wanted: Mapping[str, Sequence[str]], pin: Pin) -> str:
    url = uv_settings.without_credentials(pin.requirement.partition(" @ ")[2])
    reason = f"{url}: its user name and password would stay in the image's log (write a URL that needs none)"
    return f"{_asking(recipe, wanted, pin)}: {reason}"


def _of_this_computer(recipe: Recipe, wanted: Mapping[str, Sequence[str]], pin: Pin) -> str:
    reason = f"{pin.path} is on this computer, where the builder cannot read it (write a version or a URL)"
    return f"{_asking(recipe, wanted, pin)}: {reason}"


def _asking(recipe: Recipe, wanted: Mapping[str, Sequence[str]], pin: Pin) -> str:
    """Return the recipe, the step that names this package (else all python steps), and the package."""
    name = pin.requirement.partition(" @ ")[0]
    asks = (
        step for step, packages in wanted.items() if name in {str(canonicalize_name(Requirement(one).name)) for one in packages}
    )
    return f"recipe {recipe.name!r}: step {next(asks, ', '.join(wanted))!r}: package {name!r}"


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`uv pip compile` for a recipe."""

    recipe: Recipe
    wanted: Mapping[str, Sequence[str]]
    cache: Path

    def compile(self, packages: Sequence[str], *, preferred: Sequence[str] = (), constraints: Sequence[str] = ()) -> list[Pin]:
        """Resolve these packages with their dependencies and return the pins."""
        with tempfile.TemporaryDirectory(prefix="bakehouse-") as folder:
            for name, lines in (("wanted.in", packages), ("constraints.txt", constraints)):
                Path(folder, name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            lock = Path(folder, "pylock.toml")
            lock.write_text(write_lock(preferred), encoding="utf-8")
            command = [
                *(find_uv_bin(), "pip", "compile", "wanted.in", "--output-file", lock.name, "--constraints", "constraints.txt"),
                *("--python-version", PYTHON_OF[self.recipe.base.suite], "--python-platform", "x86_64-unknown-linux-gnu"),
                *("--python", sys.executable, "--quiet", "--cache-dir", str(self.cache), "--format", "pylock.toml"),
                *("--no-universal", "--deps"),  # override the user's uv.toml
                *(word for file in uv_settings.constraints(os.environ) for word in ("--constraints", file)),
            ]
            self._run(command, folder)
            try:
                return read_lock(lock.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BakehouseError(
                    f"recipe {self.recipe.name!r}: cannot read the output of uv: {type(error).__name__}: {error}",
                    next_step="Remove the uv setting (uv.toml, UV_ variables) that changes its output.",
                ) from error

    def _run(self, command: Sequence[str], folder: str) -> None:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**uv_settings.environment(os.environ), "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"},
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except FileNotFoundError as error:
            raise MissingToolError("uv is not installed", next_step="Delete .venv, and create it again: ./inv --list") from error
        except subprocess.TimeoutExpired as error:
            raise BakehouseError(
                f"recipe {self.recipe.name!r}: no answer from the package index within {_TIMEOUT_S} s", next_step="Try again."
            ) from error
        if done.returncode:
            raise self._error(done.returncode, uv_settings.without_credentials(done.stderr.strip()))

    def _error(self, status: int, said: str) -> BakehouseError:
        is_offline = "network was disabled" in said
        if status == _UV_UNSATISFIABLE and not is_offline:
            reason, details = explanation(said)
            where = f"recipe {self.recipe.name!r}: step {self._blamed(said)}"
            return RecipeError(["\n  ".join([f"{where}: {reason} (write a package and versions that exist)", *details])])
        return BakehouseError(
            f"recipe {self.recipe.name!r}: cannot look up the versions of its Python packages:\n{said}",
            next_step="Check the network and uv's settings (UV_DEFAULT_INDEX, proxies). Resolved packages need no network.",
        )

    def _blamed(self, said: str) -> str:
        """Return the step and package that the message is about, or all python steps."""
        words = set(re.split(r"[\s,`'\"]+", said))
        for step, packages in self.wanted.items():
            for package in packages:
                name = canonicalize_name(Requirement(package).name)
                if any(
                    word == name or word.startswith((f"{name}=", f"{name}<", f"{name}>", f"{name}!", f"{name}~")) for word in words
                ):
                    return f"{step!r}: package {name!r}"
        return ", ".join(map(repr, self.wanted))


def explanation(said: str) -> tuple[str, list[str]]:
    """Return the reason in an error of uv, on one line, and the lines with which uv explains it: output of a build, hints."""
    first, _, rest = said.partition("\n\n")
    failed, *causes = [" ".join(part.split()) for part in first.removeprefix("error: ").split("cause: ")]
    reason = failed if failed.startswith("Failed to build") or not causes else causes[0]
    lines = [line.strip() for line in rest.splitlines()]
    return reason, [line for line in lines if line and line not in ("[stderr]", "[stdout]")][:_EXPLAINING_LINES]
