"""The packages of a project's uv.lock, as they are locked: uv checks the lock and prints it, and nothing is resolved."""

from __future__ import annotations

import hashlib
import posixpath
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from packaging.specifiers import SpecifierSet

from bakery.errors import RecipeError
from bakery.recipe.local import find_package, read_toml, requirements_digest
from bakery.recipe.python_steps import LOCK
from bakery.recipe.recipe import Python, Recipe
from bakery.script.pins import Pin, checked, pin_of
from bakery.script.uv_process import run_uv
from bakery.script.wheels import fitting
from clouds.errors import BakehouseError

_SHAPING = (
    "UV_FROZEN",
    "UV_LOCKED",
    "UV_DEV",
    "UV_NO_DEV",
    "UV_NO_GROUP",
    "UV_NO_DEFAULT_GROUPS",
    "UV_NO_EDITABLE",
    "UV_NO_SOURCES",
)
"""Variables that change which packages of a lock uv prints (docs.astral.sh/uv/reference/environment)."""
_PATCHES = 100
"""More than a Python has patch releases."""


def needs(recipe: Recipe, python: Python) -> list[Any]:
    """Return as plain data what decides the packages of a step's project."""
    folder = recipe.folder / (python.project or "")
    digests = [hashlib.sha256(_content(recipe, folder / name)).hexdigest() for name in (LOCK, "pyproject.toml")]
    members = sorted(_folders(read_toml(folder / LOCK)))
    for member in members:
        found = find_package(recipe.folder, _beside(python, member), recipe.name)
        digests.append("" if isinstance(found, str) else requirements_digest(found))
    return [python.project, list(python.groups), list(python.extras), digests]


def _folders(lock: Mapping[str, Any]) -> Iterator[str]:
    """Yield the folders of a uv.lock's own packages."""
    listed = lock.get("package")
    for package in listed if isinstance(listed, list) else []:
        source = package.get("source") if isinstance(package, dict) else None
        if isinstance(source, dict):
            yield from (str(source[kind]) for kind in ("editable", "directory") if kind in source)


def _beside(python: Python, path: str) -> str:
    return posixpath.normpath(posixpath.join(python.project or "", path))


def _content(recipe: Recipe, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RecipeError([f"recipe {recipe.name!r}: {path}: {error.strerror} (restore it)"]) from error


def locked(recipe: Recipe, step: str, python: Python, version: str, cache: Path) -> list[Pin]:
    """Return the pins of a project, of the groups and extras of its step, for Python `version`.

    Raises RecipeError if the lock does not fit its project, or the builder, and BakehouseError if uv cannot check it.
    """
    where = f"recipe {recipe.name!r}: step {step!r}: project {python.project!r}"
    text = _export(recipe, python, where, cache)
    try:
        pins = _read(tomllib.loads(text), recipe, python, version, where)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"cannot read the output of uv: {type(error).__name__}: {error}"
        raise BakehouseError(
            f"{where}: {reason}", next_step="Remove the uv setting (uv.toml, UV_ variables) that changes it."
        ) from error
    return [_located(recipe, python, where, pin) for pin in pins]


def _read(printed: Mapping[str, Any], recipe: Recipe, python: Python, version: str, where: str) -> list[Pin]:
    """Return the pins of those packages of a pylock.toml that a builder with Python `version` needs."""
    if not _permits(printed.get("requires-python", ""), version):
        wanted = printed["requires-python"]
        instead = "change requires-python or base.suite"
        raise RecipeError([f"{where}: needs Python {wanted}, but {recipe.base.suite} has Python {version} ({instead})"])
    explicit = _explicit_indexes(recipe.folder / (python.project or ""))
    environment = _environment(version)
    return [
        locked_pin(package, version, explicit, where)
        for package in printed.get("packages", ())
        if "marker" not in package or Marker(package["marker"]).evaluate(environment)
    ]


def _export(recipe: Recipe, python: Python, where: str, cache: Path) -> str:
    """Return the lock as a pylock.toml (docs.astral.sh/uv/concepts/projects/export). With `--locked`, uv changes nothing."""
    folder = recipe.folder / (python.project or "")
    chosen = [*(f"--group={name}" for name in python.groups), *(f"--extra={name}" for name in python.extras)]
    shape = ("--format", "pylock.toml", "--no-header", "--no-default-groups", "--quiet", "--cache-dir", str(cache.absolute()))
    done = run_uv(["export", "--locked", *shape, *chosen], folder, recipe.name, without=_SHAPING)
    if not done.returncode:
        return done.stdout
    said = done.stderr
    command = f"uv lock --project {folder}"
    if "needs to be updated" in said:
        reason = "uv.lock is not up to date with pyproject.toml, or with the package indexes of your uv settings"
        raise RecipeError([f"{where}: {reason} (run: {command})"], next_step=command)
    if "No interpreter found" in said or "Python requirement" in said:
        reason = f"to check uv.lock, uv needs a Python on this computer that fits requires-python:\n{said}"
        raise BakehouseError(f"{where}: {reason}", next_step="Install that Python: uv python install VERSION")
    raise BakehouseError(f"{where}: uv cannot read the project:\n{said}", next_step=f"Fix what uv reports, then run: {command}")


def _permits(wanted: str, version: str) -> bool:
    specifiers = SpecifierSet(wanted)
    return any(specifiers.contains(f"{version}.{patch}") for patch in range(_PATCHES))


def _environment(version: str) -> dict[str, str]:
    """Return the values of markers in a builder (packaging.python.org/en/latest/specifications/dependency-specifiers)."""
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.0",
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
        "extra": "",
    }


def _explicit_indexes(folder: Path) -> set[str]:
    """Return the indexes of a project other than its default one: a builder does not search them."""
    listed = read_toml(folder / "pyproject.toml").get("tool", {}).get("uv", {}).get("index", ())
    return {str(index.get("url", "")).rstrip("/") for index in listed if not index.get("default")}


def locked_pin(package: Mapping[str, Any], version: str, explicit: set[str], where: str) -> Pin:
    """Return the pin of a package with the files that fit a builder; with an address, if its index is not the default one."""
    if not {"wheels", "sdist"} & set(package):
        return checked(pin_of(package))
    wheels = fitting(package.get("wheels", ()), version)
    if not wheels and "sdist" not in package:
        instead = f"lock a version that has one, or change base.suite, whose Python is {version}"
        raise RecipeError([f"{where}: {package['name']} {package['version']} has no file for Linux on x86_64 ({instead})"])
    pin = pin_of({**package, "wheels": wheels})
    if str(package.get("index", "")).rstrip("/") in explicit:
        best = pin_of({**package, "wheels": wheels[:1]})
        pin = Pin(f"{package['name']} @ {best.urls[0]}", best.hashes)
    return checked(pin)


def _located(recipe: Recipe, python: Python, where: str, pin: Pin) -> Pin:
    """Return a pin with the `source` of its package in the recipe's folder, if it is a file or a folder."""
    if not pin.path:
        return pin
    try:
        path = (recipe.folder / (python.project or "") / pin.path).resolve()
        source = path.relative_to(recipe.folder.resolve()).as_posix()
    except ValueError:
        raise RecipeError(
            [f"{where}: package {pin.name!r} is in {pin.path}, outside the recipe's folder (copy it there)"]
        ) from None
    if isinstance(trouble := find_package(recipe.folder, source, recipe.name), str):
        raise RecipeError([f"{where}: package {pin.name!r}: {source} {trouble}"])
    return replace(pin, path="", source=source)
