"""The rules of conda steps, with the environment file beside a recipe (docs.conda.io, "Creating an environment file manually")."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from bakery.recipe.archive import find, is_source
from bakery.recipe.problems import Key, Problem, show

_KEYS = ("name", "channels", "dependencies", "prefix")


@dataclass(frozen=True, slots=True)
class Environment:
    """What an environment file asks for: channels, conda packages, and packages for pip."""

    channels: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()


def table(value: object) -> object:
    """Return the table that a list of packages is short for."""
    return {"packages": value} if isinstance(value, list) else value


def broken(steps: Sequence[tuple[int, Mapping[str, Any]]], folder: Path) -> Iterator[Problem]:
    """Yield which rules the raw conda steps of a recipe's file break; their values may be invalid."""
    found = [(at, step["conda"]) for at, step in steps if "conda" in step]
    for at, _ in found[1:]:
        yield Problem(("steps", at, "conda"), f"is a second conda step (write all conda packages into steps[{found[0][0]}])")
    for at, conda in found:
        where: Key = ("steps", at, "conda")
        if not isinstance(conda, dict):
            continue
        asked = [key for key in ("packages", "environment") if key in conda]
        if not asked:
            yield Problem(where, "installs nothing (write packages or environment)")
        elif len(asked) > 1:
            yield Problem(where, "has packages and environment (write the packages into the file)")
        if is_source(source := conda.get("environment")):
            for problem in read(folder, source)[1]:
                yield Problem((*where, "environment"), f"{show(source)}: {problem}")


def read(folder: Path, source: str) -> tuple[Environment, list[str]]:
    """Return what an environment file asks for, and its problems, each as `what (what to write instead)`."""
    import yaml  # only if a recipe has such a file

    found = find(folder, source)
    if isinstance(found, str):
        return Environment(), [found]
    try:
        raw = yaml.safe_load(found[0].path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        return Environment(), [f"{f'line {mark.line + 1}: ' if mark else ''}is not valid YAML (correct the file)"]
    if not isinstance(raw, dict):
        return Environment(), ["is not an environment file (write channels and dependencies)"]
    problems = [f"{key} is not supported (remove it, or set it in a `run` step)" for key in raw if key not in _KEYS]
    channels, listed = raw.get("channels") or [], raw.get("dependencies") or []
    if not isinstance(channels, list) or not isinstance(listed, list):
        return Environment(), [*problems, "channels or dependencies is not a list (write a list)"]
    packages = [one for one in listed if isinstance(one, str)]
    others = [one for one in listed if not isinstance(one, str)]
    pip = [line for one in others if isinstance(one, dict) and isinstance(one.get("pip"), list) for line in one["pip"]]
    problems += [f"{show(one)} is not a package (write NAME, or a list `pip:`)" for one in others if not _is_pip(one)]
    problems += [f"pip: {show(line)} is not a package with a version (write it so)" for line in pip if not _is_requirement(line)]
    if not packages and not problems:
        problems = ["installs nothing (write dependencies)"]
    return Environment(tuple(str(one) for one in channels if one != "nodefaults"), tuple(packages), tuple(map(str, pip))), problems


def _is_pip(one: object) -> bool:
    return isinstance(one, dict) and set(one) == {"pip"} and isinstance(one["pip"], list)


def _is_requirement(line: object) -> bool:
    """Return whether a line for pip is a package of an index, whose address could not contain a password."""
    try:
        return isinstance(line, str) and not Requirement(line).url
    except InvalidRequirement:
        return False
