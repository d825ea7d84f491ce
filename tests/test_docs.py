"""The documents say what there is: each task, flag and recipe key, and the version."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import bakery.cli
import launcher.command.verbs
import tasks
from bakery.recipe.recipe import Recipe, available
from tests.vm.every_recipe import PAGE, with_figures

ROOT = Path(__file__).parents[1]
VERBS = (*launcher.command.verbs.VERBS, *bakery.cli.VERBS, *tasks.VERBS)
NOT_WRITTEN = {"folder"}
"""Fields of a recipe that Bakehouse fills in itself."""


def documents() -> str:
    return "\n".join(
        path.read_text(encoding="utf-8") for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))] if path.exists()
    )


def keys(record: type) -> Iterator[str]:
    """Yield the name of every key that a recipe may have, at any depth."""
    for name, hint in typing.get_type_hints(record, include_extras=True).items():
        if name not in NOT_WRITTEN:
            yield name.rstrip("_")
        for inner in records_in(hint):
            yield from keys(inner)


def records_in(hint: object) -> Iterator[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        yield hint
    for argument in typing.get_args(hint):
        yield from records_in(argument)


def test_each_task_stands_in_the_documents() -> None:
    text = documents()
    assert [verb.name for verb in VERBS if not re.search(rf"\./inv {verb.name}\b(?!-)|`{verb.name}[ `]", text)] == []


def test_arguments_have_the_same_names_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    usages = [" ".join([verb.name, *(str(one.name).upper() for one in verb.positionals)]) for verb in VERBS if verb.positionals]
    assert [usage for usage in usages if not re.search(rf"`{usage}[` ]", text)] == []


def test_each_flag_stands_in_the_documents() -> None:
    text, flags = documents(), {flag.name for verb in VERBS for flag in verb.flags}
    assert [flag for flag in sorted(flags) if not re.search(rf"--{flag}\b(?!-)", text)] == []


def test_each_key_of_a_recipe_is_explained() -> None:
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert [key for key in sorted(set(keys(Recipe))) if not re.search(rf"`([a-z_.]+\.|\[+)?{key}\b", text)] == []


def test_the_keys_of_a_recipe_are_found_at_every_depth() -> None:
    assert {"name", "suite", "memory_mb", "steps", "sha256", "default_url", "from"} <= set(keys(Recipe))


def test_the_version_is_the_newest_heading_of_the_changelog() -> None:
    newest = re.search(r"^## \[?([0-9][^\s\]]*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == (ROOT / "VERSION").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("name", available())
def test_the_figures_of_each_recipe_have_a_row(name: str) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert f"\n| `{name}` | 12 | 3 passed |\n" in with_figures(page, name, "12 | 3 passed")
