"""What the python steps of a recipe ask for: packages, requirements files, or a project with its lock."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from bakery.errors import RecipeError
from bakery.recipe import requirements
from bakery.recipe.archive import Found, find
from bakery.recipe.local import find_package, requirements_digest, stage
from bakery.recipe.pip_syntax import Line, Option, Requirements, name_in
from bakery.recipe.recipe import Python, Recipe
from bakery.script import project
from bakery.script.pins import Pin


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one python step asks for."""

    step: str
    python: Python
    files: Requirements

    @property
    def names(self) -> Iterator[tuple[str, str]]:
        """Each package that the step names, and the file and line that do, unless that is the recipe."""
        for text in self.python.packages:
            yield name_in(text), ""
        for line in self.files.lines:
            yield line.package, line.where


def gather(recipe: Recipe) -> list[Wanted]:
    """Return what each python step asks for. RecipeError: a requirements file is no longer as it was when the recipe was loaded."""
    found, problems = [], []
    for step in recipe.steps:
        if step.python:
            files, wrong = requirements.read(recipe.folder, step.python.requirements, recipe.name)
            problems += [f"recipe {recipe.name!r}: step {step.name!r}: {problem}" for problem in wrong]
            found.append(Wanted(step.name, step.python, files))
    if problems:
        raise RecipeError(problems)
    return found


def needs(recipe: Recipe, wanted: Sequence[Wanted]) -> dict[str, Any]:
    """Return as plain data what decides the versions: if it is the same, stored versions are used."""
    found: dict[str, Any] = {"packages": [[one.step, list(one.python.packages)] for one in wanted]}
    if files := {one.step: _plain(recipe, one.files) for one in wanted if one.python.requirements}:
        found["requirements"] = files
    if projects := {one.step: project.needs(recipe, one.python) for one in wanted if one.python.project}:
        found["projects"] = projects
    return found


def _plain(recipe: Recipe, files: Requirements) -> list[Any]:
    lines, constraints = ([_plain_line(recipe, line) for line in lines] for lines in (files.lines, files.constraints))
    options = [[one.name, one.value, _listing(recipe, one)] for one in files.options]
    return [lines, constraints, options]


def _plain_line(recipe: Recipe, line: Line) -> list[Any]:
    content = requirements_digest(found_package(recipe, line.path)) if line.path else ""
    return [line.text, line.before, line.path, line.after, list(line.hashes), content]


def _listing(recipe: Recipe, option: Option) -> list[list[str]]:
    """Return the files of a local folder of packages, with their digests."""
    found = find(recipe.folder, option.value) if option.is_local else []
    files = [] if isinstance(found, str) else [one.path for one in found if one.path.is_file()]
    return [[path.name, hashlib.sha256(path.read_bytes()).hexdigest()] for path in files]


def found_package(recipe: Recipe, source: str) -> list[Found]:
    """Return the files of a package beside the recipe. RecipeError: there is none, or not as it must be."""
    found = find_package(recipe.folder, source, recipe.name)
    if isinstance(found, str):
        raise RecipeError([f"recipe {recipe.name!r}: {source} {found}"])
    return found


def options_of(wanted: Sequence[Wanted]) -> list[Option]:
    """Return the options of all requirements files: all steps are resolved together, so that they apply to each."""
    return list(dict.fromkeys(option for one in wanted for option in one.files.options))


def index_lines(wanted: Sequence[Wanted]) -> tuple[str, ...]:
    """Return the options with which a builder finds the same files, as lines of a requirements file."""
    names = ("index-url", "extra-index-url", "find-links")
    return tuple(f"--{one.name} {one.value}" for one in options_of(wanted) if one.name in names and not one.is_local)


def write_input(
    recipe: Recipe, steps: Sequence[Wanted], wanted: Sequence[Wanted], folder: Path
) -> tuple[list[str], dict[Path, str]]:
    """Return the lines for uv that ask for what `steps` ask for, and which path in them is which package beside the recipe.

    Folders are staged in `folder`, in which uv runs, so that a build sees the files that a builder's build will see.
    """
    top, places = recipe.folder.resolve(), dict[Path, str]()
    lines = [_option_line(top, option) for option in options_of(wanted) if option.name != "pre"]
    for one in steps:
        lines += one.python.packages
        for line in one.files.lines:
            if not line.path:
                lines.append(line.text)
                continue
            place = (top / line.path).resolve()
            if place.is_dir():
                shown = f"./local/{len(places)}"
                place = folder.resolve() / shown
                stage(found_package(recipe, line.path), place)
            else:
                shown = place.as_uri()
            places[place] = line.path
            lines.append(f"{line.before}{shown}{line.after}")
    return lines, places


def _option_line(top: Path, option: Option) -> str:
    value = (top / option.value).as_uri() if option.is_local else option.value
    return f"--{option.name} {value}".rstrip()


def beside(recipe: Recipe, pin: Pin, places: dict[Path, str], wanted: Sequence[Wanted], folder: Path) -> Pin:
    """Return a pin with the `source` of its package, if that is beside the recipe and a step asks for it."""
    top = recipe.folder.resolve()
    if pin.path:
        path = Path(unquote(urlsplit(pin.path).path)) if pin.path.startswith("file:") else folder.resolve() / pin.path
        source = places.get(path.resolve())
        return replace(pin, path="", source=source) if source else pin
    links = {top / option.value for option in options_of(wanted) if option.is_local}
    for url in pin.urls:
        path = Path(unquote(urlsplit(url).path))
        if url.startswith("file:") and path.parent in links:
            return replace(pin, source=path.relative_to(top).as_posix())
    return pin
