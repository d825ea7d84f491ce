"""Resolve the versions of a recipe's packages on this computer, before any machine boots, and store them.

Each version includes the hashes of its files (`bakery.script.pins`), so that a bake installs exactly what was resolved, or fails.
With stored resolutions (a JSON file per recipe in BAKEHOUSE_HOME/resolved) the digest can be computed without a network. They are
used until `refresh`, or until the recipe's packages change; then versions that still fit are kept.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bakery.errors import RecipeError
from bakery.recipe.credentials import has_credentials, plain
from bakery.recipe.pip_syntax import Requirements
from bakery.recipe.recipe import Python, Recipe
from bakery.script import conda, project, uv_settings, wanted
from bakery.script.conda import Lock
from bakery.script.local import Local, place
from bakery.script.pins import Pin, read_lock, write_lock
from bakery.script.uv_process import run_uv
from bakery.script.wanted import Wanted
from bakery.script.wheels import fits
from clouds.errors import BakehouseError
from clouds.home import read_json, write_private

PYTHON_OF = {"trixie": "3.13", "noble": "3.12"}
"""The version of Python in each suite (packages.debian.org/python3, packages.ubuntu.com/python3)."""

_UV_UNSATISFIABLE = 1
"""uv's exit status if no set of versions fits; 2 means any other failure, such as no network."""
_EXPLAINING_LINES = 25


@dataclass(frozen=True, slots=True)
class Resolution:
    """The exact Python packages of each python step, and the time of the last refresh of packages without a lock file.

    `hashes` maps a requirement to the hashes of its files (`sha256:...`); none for a package from a repository.
    `local` are the packages beside the recipe, by step. `indexes` are lines with the indexes of requirements files.
    `conda` is the lock of the conda step.
    """

    pins: Mapping[str, tuple[str, ...]]
    refreshed: str = ""
    hashes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    local: Mapping[str, tuple[Local, ...]] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()
    conda: Lock = field(default_factory=Lock)


def resolve(recipe: Recipe, folder: Path, *, refresh: bool, keep: bool = True) -> Resolution:
    """Return the versions of a recipe's packages, from `folder` if stored there; with `keep`, store new ones.

    Raises RecipeError, with step and package, if a package does not exist or no set of versions fits, and BakehouseError if the
    package index cannot be reached.
    """
    kept_at = folder / f"{recipe.name}.json"
    asked = wanted.gather(recipe)
    needs: dict[str, Any] = {"python": PYTHON_OF[recipe.base.suite], **wanted.needs(recipe, asked)}
    environment = conda.gather(recipe)
    if environment:
        needs["conda"] = environment.needs()
    if (asked or (environment and environment.pip)) and (settings := uv_settings.fingerprint(os.environ)):
        needs["settings"] = settings
    kept = _read(kept_at)
    if not refresh and kept and kept["needs"] == needs and "hashes" in kept:  # older releases stored none
        return _resolution(recipe, kept)
    is_new = refresh or not kept or kept["needs"].get("settings") != needs.get("settings")
    preferred = [] if is_new or not kept else [pin for pins in kept["pins"].values() for pin in pins]
    pins = _pin(recipe, asked, preferred, folder / "cache") if asked else {}
    placed = {step: [place(pin) for pin in ours] for step, ours in pins.items()}
    found = {
        **(kept or {}),  # keep fields of other releases
        "needs": needs,
        "pins": {step: [one.requirement for one in ours if one.requirement] for step, ours in placed.items()},
        "hashes": {one.requirement: list(one.hashes) for ours in placed.values() for one in ours if one.requirement},
        "local": {step: [one.local.to_json() for one in ours if one.local] for step, ours in placed.items()},
        "indexes": list(wanted.index_lines(asked)),
        "conda": _conda(recipe, environment, None if is_new else kept, folder / "cache").to_json(),
        "refreshed": datetime.now(UTC).isoformat(timespec="seconds") if refresh or not kept else kept["refreshed"],
    }
    if keep:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(kept_at, json.dumps(found, indent=1) + "\n")
    return _resolution(recipe, found)


def _resolution(recipe: Recipe, kept: Mapping[str, Any]) -> Resolution:
    is_unlocked = any(step.is_unlocked for step in recipe.steps)
    pins = {name: tuple(pins) for name, pins in kept["pins"].items()}
    hashes = {pin: tuple(found) for pin, found in kept["hashes"].items()}
    local = {step: tuple(Local(*values) for values in ours) for step, ours in kept.get("local", {}).items() if ours}
    return Resolution(pins, kept["refreshed"] if is_unlocked else "", hashes, local, tuple(kept.get("indexes", ())), _lock(kept))


def _lock(kept: Mapping[str, Any]) -> conda.Lock:
    return conda.from_json(kept["conda"]) if "conda" in kept else conda.Lock()


def _conda(recipe: Recipe, asked: conda.WantedConda | None, kept: Mapping[str, Any] | None, cache: Path) -> conda.Lock:
    """Return the lock of the conda step: the stored one if the step asks for the same, else a new solution."""
    if asked is None:
        return conda.Lock()
    if kept and kept["needs"].get("conda") == asked.needs():
        return _lock(kept)
    solved = conda.solve(recipe, asked, cache / "conda")
    if not asked.pip:
        return conda.Lock(solved.packages)
    if not solved.python:
        reason = "its environment file has pip packages, but no Python (add python and pip to its dependencies)"
        raise RecipeError([f"recipe {recipe.name!r}: step {asked.step!r}: {reason}"])
    uv_settings.check(os.environ)
    steps = [Wanted(asked.step, Python(packages=asked.pip), Requirements())]
    pins = _Compiler(recipe, steps, cache, solved.python).compile(steps, constraints=solved.constraints)
    _refuse(recipe, steps, pins)
    return conda.Lock(solved.packages, tuple(pin for pin in pins if pin.requirement not in solved.constraints))


def _read(path: Path) -> dict[str, Any] | None:
    """Return the stored resolution, or None; also None if it is from an older release or damaged."""
    kept = read_json(path)
    return kept if kept and {"needs", "pins", "refreshed"} <= kept.keys() else None


def _pin(recipe: Recipe, asked: Sequence[Wanted], preferred: Sequence[str], cache: Path) -> dict[str, list[Pin]]:
    """Return the pins of each step: all steps are resolved together, and each gets what earlier steps do not install.

    The packages of a project are as its lock says, and the other steps are resolved with them.
    """
    uv_settings.check(os.environ)
    version = PYTHON_OF[recipe.base.suite]
    locks = {one.step: project.locked(recipe, one.step, one.python, version, cache) for one in asked if one.python.project}
    locked = _together(recipe, locks)
    compiler = _Compiler(recipe, asked, cache, version)
    others = [one for one in asked if one.step not in locks]
    fixed = [pin.requirement for pin in locked.values() if not pin.source]
    everything = _narrowed(recipe, asked, compiler.compile(others, preferred=preferred, constraints=fixed)) if others else []
    _refuse(recipe, asked, [*everything, *locked.values()])
    pins: dict[str, list[Pin]] = {}
    so_far: list[Wanted] = []
    known = {pin.name: pin for pin in everything} | locked
    fixed += [pin.requirement for pin in everything if not pin.source]
    for one in asked:
        reached = locks.get(one.step)
        if reached is None:
            so_far.append(one)
            reached = everything if one == others[-1] else compiler.compile(so_far, constraints=list(dict.fromkeys(fixed)))
        before = {pin.name for earlier in pins.values() for pin in earlier}
        pins[one.step] = [known.get(pin.name, pin) for pin in reached if pin.name not in before]
    return pins


def _together(recipe: Recipe, locks: Mapping[str, Sequence[Pin]]) -> dict[str, Pin]:
    """Return all packages of the projects by name. RecipeError: two of them lock different versions."""
    found: dict[str, Pin] = {}
    for step, pins in locks.items():
        for pin in pins:
            other = found.setdefault(pin.name, pin)
            if (other.requirement, other.source) != (pin.requirement, pin.source):
                reason = f"locks {pin.requirement}, but an earlier project {other.requirement} (lock the same version)"
                raise RecipeError([f"recipe {recipe.name!r}: step {step!r}: {reason}"])
    return found


def _narrowed(recipe: Recipe, asked: Sequence[Wanted], pins: Sequence[Pin]) -> list[Pin]:
    """Return pins with only those hashes that the requirements files allow. RecipeError: none is left."""
    allowed: dict[str, list[str]] = {}
    where: dict[str, str] = {}
    for step in asked:
        for line in (*step.files.lines, *step.files.constraints):
            if line.hashes:
                allowed.setdefault(line.package, []).extend(line.hashes)
                where.setdefault(line.package, f"recipe {recipe.name!r}: step {step.step!r}: {line.where}")
    problems = [
        f"{where[pin.name]}: no file of {pin.requirement} has one of these hashes (remove them, or change the version)"
        for pin in pins
        if pin.name in allowed and not set(pin.hashes) & set(allowed[pin.name])
    ]
    if problems:
        raise RecipeError(problems)
    return [replace(pin, hashes=tuple(one for one in pin.hashes if one in allowed.get(pin.name, pin.hashes))) for pin in pins]


def _refuse(recipe: Recipe, asked: Sequence[Wanted], pins: Sequence[Pin]) -> None:
    """Raise RecipeError for packages that a builder cannot get, or whose address contains a password."""
    if secret := [pin for pin in pins if has_credentials(pin.requirement)]:
        raise RecipeError([_of_secret(recipe, asked, pin) for pin in secret])
    if local := [pin for pin in pins if pin.path]:
        raise RecipeError([_of_this_computer(recipe, asked, pin) for pin in local])
    version = PYTHON_OF[recipe.base.suite]
    if foreign := [pin for pin in pins if not fits(pin.source or pin.requirement.partition(" @ ")[2], version)]:
        reason = f"its wheel is for another system (write one for Linux on x86_64 and Python {version})"
        raise RecipeError([f"{_asking(recipe, asked, pin)}: {reason}" for pin in foreign])


def _of_secret(recipe: Recipe, asked: Sequence[Wanted], pin: Pin) -> str:
    url = plain(pin.requirement.partition(" @ ")[2])
    reason = f"{url}: its user name and password would stay in the image's log (write a URL that needs none)"
    return f"{_asking(recipe, asked, pin)}: {reason}"


def _of_this_computer(recipe: Recipe, asked: Sequence[Wanted], pin: Pin) -> str:
    reason = f"{pin.path} is on this computer, where the builder cannot read it (write a version or a URL)"
    return f"{_asking(recipe, asked, pin)}: {reason}"


def _asking(recipe: Recipe, asked: Sequence[Wanted], pin: Pin) -> str:
    """Return the recipe, the step and line that name this package (else all python steps), and the package."""
    asks = (_at(one, where) for one in asked for name, where in one.names if name == pin.name)
    steps = ", ".join(one.step for one in asked)
    return f"recipe {recipe.name!r}: step {next(asks, repr(steps))}: package {pin.name!r}"


def _at(one: Wanted, where: str) -> str:
    return f"{one.step!r}: {where}" if where else repr(one.step)


@dataclass(frozen=True, slots=True)
class _Compiler:
    """`uv pip compile` for a recipe."""

    recipe: Recipe
    asked: Sequence[Wanted]
    cache: Path
    python: str

    def compile(self, steps: Sequence[Wanted], *, preferred: Sequence[str] = (), constraints: Sequence[str] = ()) -> list[Pin]:
        """Resolve what these steps ask for, with dependencies, and return the pins."""
        with tempfile.TemporaryDirectory(prefix="bakehouse-") as name:
            folder = Path(name)
            lines, places = wanted.write_input(self.recipe, steps, self.asked, folder)
            own = [line.text for one in self.asked for line in one.files.constraints]
            for file, content in (("wanted.in", lines), ("constraints.txt", [*constraints, *own])):
                (folder / file).write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
            (folder / "uv.toml").touch()  # otherwise uv takes that of a folder above, or [tool.uv] of a pyproject.toml there
            lock = folder / "pylock.toml"
            lock.write_text(write_lock(preferred), encoding="utf-8")
            arguments = [
                *("pip", "compile", "wanted.in", "--output-file", lock.name, "--constraints", "constraints.txt"),
                *("--python-version", self.python, "--python-platform", "x86_64-unknown-linux-gnu"),
                *("--python", sys.executable, "--quiet", "--cache-dir", str(self.cache.absolute()), "--format", "pylock.toml"),
                *("--no-universal", "--deps"),  # override the user's uv.toml
                *(("--prerelease", "allow") if any(one.name == "pre" for one in wanted.options_of(self.asked)) else ()),
                *(word for file in uv_settings.constraints(os.environ) for word in ("--constraints", file)),
            ]
            done = run_uv(arguments, folder, self.recipe.name)
            if done.returncode:
                raise self._error(done.returncode, _renamed(done.stderr, places))
            try:
                pins = read_lock(lock.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise BakehouseError(
                    f"recipe {self.recipe.name!r}: cannot read the output of uv: {type(error).__name__}: {error}",
                    next_step="Remove the uv setting (uv.toml, UV_ variables) that changes its output.",
                ) from error
            return [wanted.beside(self.recipe, pin, places, self.asked, folder) for pin in pins]

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
        """Return the step, line and package that the message is about, or all python steps."""
        words = set(re.split(r"[\s,`'\"]+", said))
        for one in self.asked:
            for name, where in one.names:
                if name and any(word == name or word.startswith(tuple(f"{name}{sign}" for sign in "=<>!~")) for word in words):
                    return f"{_at(one, where)}: package {name!r}"
        if "build backend" in said:  # uv names no package for a path alone
            unnamed = [_at(one, line.where) for one in self.asked for line in one.files.lines if line.path and not line.name]
            return ", ".join(unnamed or (repr(one.step) for one in self.asked))
        return ", ".join(repr(one.step) for one in self.asked)


def _renamed(said: str, places: Mapping[Path, str]) -> str:
    """Return a message of uv in which packages beside the recipe have the paths that the user wrote."""
    for path, source in places.items():
        said = said.replace(path.as_uri(), source).replace(str(path), source)
    return said


def explanation(said: str) -> tuple[str, list[str]]:
    """Return the reason in an error of uv, on one line, and the lines with which uv explains it: output of a build, hints."""
    first, _, rest = said.partition("\n\n")
    failed, *causes = [" ".join(part.split()) for part in first.removeprefix("error: ").split("cause: ")]
    reason = failed if failed.startswith("Failed to build") or not causes else causes[0]
    lines = [line.strip() for line in rest.splitlines()]
    return reason, [line for line in lines if line and line not in ("[stderr]", "[stdout]")][:_EXPLAINING_LINES]
