"""The rules of python steps, with the requirements files and projects beside a recipe."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from bakery.recipe import requirements
from bakery.recipe.archive import find, is_source
from bakery.recipe.local import read_toml
from bakery.recipe.pip_syntax import name_in
from bakery.recipe.problems import Key, Problem, show

LOCK = "uv.lock"
_LOCK_COMMAND = "run `uv lock` in that folder; of a workspace, name the root"


def broken(steps: Sequence[tuple[int, Mapping[str, Any]]], path: Path) -> Iterator[Problem]:
    """Yield which rules the raw python steps of a recipe's file break; their values may be invalid."""
    for at, step in steps:
        python = step.get("python")
        if not isinstance(python, dict):
            continue
        where: Key = ("steps", at, "python")
        yield from _wrong_keys(python, where)
        yield from _wrong_files(python, where, path)
        if is_source(python.get("project")):
            yield from _wrong_project(python, where, path.parent)


def names(python: object, folder: Path) -> set[str]:
    """Return the names of packages that a raw python step asks for, as far as files beside the recipe tell."""
    if not isinstance(python, dict):
        return set()
    listed = python.get("packages")
    found = {name_in(one) for one in (listed if isinstance(listed, list) else []) if isinstance(one, str)}
    sources = [source for _, source in _sources(python)]
    found |= {line.package for line in requirements.read(folder, sources, "")[0].lines}
    if is_source(project := python.get("project")):
        locked = read_toml(folder / project / LOCK).get("package")
        found |= {str(one.get("name")) for one in (locked if isinstance(locked, list) else []) if isinstance(one, dict)}
    return found


def _sources(python: Mapping[str, Any]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield each requirements file with its place in the list."""
    listed = python.get("requirements")
    for index, source in enumerate(listed if isinstance(listed, list) else [listed]):
        if is_source(source):
            yield (index,), source


def _wrong_keys(python: Mapping[str, Any], where: Key) -> Iterator[Problem]:
    asked = [key for key in ("packages", "requirements", "project") if key in python]
    if not asked:
        yield Problem(where, "installs nothing (write packages, requirements or project)")
    if "project" in asked and len(asked) > 1:
        yield Problem(where, f"has {' and '.join(asked)} (write a separate step for the project)")
    if "project" not in asked:
        for key in {"groups", "extras"} & set(python):
            yield Problem((*where, key), "belongs to a project (write project, or remove it)")


def _wrong_files(python: Mapping[str, Any], where: Key, path: Path) -> Iterator[Problem]:
    """Yield the problems of requirements files, and whether a step has nothing else and they name no package."""
    read = [
        (source, (*where, "requirements", *index), requirements.read(path.parent, [source], path.stem))
        for index, source in _sources(python)
    ]
    for _, key, (_, problems) in read:
        yield from (Problem(key, problem) for problem in problems)
    if read and "packages" not in python and not any(found.lines or problems for _, _, (found, problems) in read):
        names = ", ".join(source for source, _, _ in read)
        told = f"installs nothing: no package in {names} (write one such as numpy on a line, or remove the step)"
        yield Problem((*where, "requirements"), told)


def _wrong_project(python: Mapping[str, Any], where: Key, folder: Path) -> Iterator[Problem]:
    """Yield why the project of a step cannot be installed from its lock, as far as its files tell."""
    project = python["project"]
    for name, instead in (("pyproject.toml", "write the folder of a Python project"), (LOCK, _LOCK_COMMAND)):
        found = find(folder, posixpath.join(project, name))
        if isinstance(found, str):
            is_missing = "does not exist" in found
            reason = f"{show(project)} has no {name} ({instead})" if is_missing else f"{show(project)}: {name} {found}"
            yield Problem((*where, "project"), reason)
            return
        if not read_toml(found[0].path):
            instead = "run `uv lock` in that folder, which names the line"
            yield Problem((*where, "project"), f"{show(project)}: {name} is empty or not valid TOML ({instead})")
            return
    content = read_toml(folder / project / "pyproject.toml")
    groups = {**_table(content, "dependency-groups")}
    if "dev-dependencies" in _table(_table(content, "tool"), "uv"):  # uv's form before dependency-groups
        groups["dev"] = ()
    for key, known in (("groups", groups), ("extras", _table(_table(content, "project"), "optional-dependencies"))):
        yield from _unknown(python.get(key), (*where, key), known)


def _table(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = content.get(key)
    return value if isinstance(value, dict) else {}


def _unknown(asked: object, where: Key, known: Mapping[str, Any]) -> Iterator[Problem]:
    names_of = {str(canonicalize_name(name)): name for name in known}
    for index, name in enumerate(asked if isinstance(asked, list) else []):
        if isinstance(name, str) and canonicalize_name(name) not in names_of:
            nearest = get_close_matches(name, names_of.values(), n=1)
            instead = f'write "{nearest[0]}"' if nearest else f"known: {', '.join(names_of.values()) or 'none'}"
            yield Problem((*where, index), f"{show(name)} is not in pyproject.toml ({instead})")
