"""The rules of conda steps, with the environment file beside a recipe (docs.conda.io, "Creating an environment file manually")."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from pydantic_core import PydanticCustomError

from bakery.recipe import fields
from bakery.recipe.archive import find, is_source
from bakery.recipe.credentials import plain
from bakery.recipe.problems import Key, Problem, show
from bakery.recipe.yaml_files import BadYamlError, read_yaml

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
    found = find(folder, source)
    if isinstance(found, str):
        return Environment(), [found]
    if not found[0].path.is_file():
        return Environment(), ["is a folder (write the path of an environment.yml)"]
    try:
        raw = read_yaml(found[0].path)
    except BadYamlError as error:
        return Environment(), [str(error)]
    except OSError as error:
        return Environment(), [f"cannot be read: {error.strerror} (change its owner or mode)"]
    problems = [_unknown(key) for key in raw if key not in _KEYS]
    problems += [
        f"{key}: is {show(raw[key])}, not a list (write it in [ ], or each item after `- ` on a line of its own)"
        for key in ("channels", "dependencies")
        if not isinstance(raw.get(key) or [], list)
    ]
    channels, listed = (value if isinstance(value := raw.get(key), list) else [] for key in ("channels", "dependencies"))
    packages = [one for one in listed if not isinstance(one, dict)]
    tables = [item for one in listed if isinstance(one, dict) for item in one.items()]
    pip = [line for key, lines in tables if key == "pip" and isinstance(lines, list) for line in lines]
    problems += _wrong("channels", channels, fields.conda_channel)
    problems += _wrong("dependencies", packages, fields.conda_package)
    problems += [
        f"dependencies: {_wrong_table(key, value)}" for key, value in tables if key != "pip" or not isinstance(value, list)
    ]
    problems += [f"pip: {show(line)} {reason}" for line in pip if (reason := _not_for_pip(line))]
    if not packages and not problems:
        problems = ["installs nothing (write dependencies)"]
    return Environment(tuple(map(str, channels)), tuple(map(str, packages)), tuple(map(str, pip))), problems


def _unknown(key: object) -> str:
    if key == "variables":
        return "variables is not supported (remove it, or set them in a `run` step)"
    if key == "platforms":
        return "platforms is not supported (remove it: packages are for linux-64)"
    nearest = get_close_matches(str(key), (*_KEYS, "pip"), n=1)
    if nearest == ["pip"]:
        return f"{show(key)} is not a known key here (write `- pip:` below dependencies)"
    instead = f"write {nearest[0]}" if nearest else f"known keys: {', '.join(_KEYS)}"
    return f"{show(key)} is not a known key here ({instead})"


def _wrong(key: str, listed: Sequence[object], check: Callable[[str], object]) -> Iterator[str]:
    """Yield why entries of a list are wrong; `check` is the validator of one that is text."""
    for at, one in enumerate(listed):
        if not isinstance(one, str):
            yield f"{key}[{at}]: is {show(one)}, not text (write a name, or remove it)"
            continue
        try:
            check(one)
        except PydanticCustomError as error:
            yield f"{key}: {show(one)} {error.message()}"


def _wrong_table(key: object, value: object) -> str:
    """Return why a table among the packages is wrong."""
    if key == "pip":
        return f"pip: is {show(value)}, not a list (write each package after `- ` on a line of its own, below `- pip:`)"
    if get_close_matches(str(key), ["pip"]):
        return f"{show(key)} is not a known key here (write pip)"
    return f"{show(key)} has a value of its own (write a package so: `- {plain(str(key))}=1.2`; only `pip:` has a list)"


def _not_for_pip(line: object) -> str:
    """Return why a line for pip is not a package of an index, whose address could not contain a password; "" if it is one."""
    text = line if isinstance(line, str) else ""
    if text.startswith(("-r", "--requirement", "-c", "--constraint")):
        return "names another file (write its packages here)"
    if text.startswith("-"):
        return "is an option (remove it; indexes are those of your uv settings)"
    try:
        return "has an address (write a name and versions)" if Requirement(text).url else ""
    except InvalidRequirement:
        return "is not a Python package requirement (write one such as numpy or pandas>=2)"
