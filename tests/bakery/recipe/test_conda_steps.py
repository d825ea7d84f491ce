"""Conda steps and environment files that are wrong: each problem with its key and what to write instead, without a password."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bakery.errors import RecipeError
from bakery.recipe.recipe import Recipe, load


def recipe(tmp_path: Path, conda: str) -> Recipe:
    path = tmp_path / "lab.toml"
    path.write_text(f'name = "lab"\n[[steps]]\nname = "env"\nconda = {conda}\n')
    return load(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- apple", "is a list, not keys with values"),
        ("", "installs nothing (write dependencies)"),
        ("dependencies: [", "line 1: is not valid YAML: while parsing a flow node, expected the node content"),
        ("dependencies:\n\t- apple", "line 2: is not valid YAML: while scanning for the next token, found character '\\t'"),
        ("name: 2001-99-99", "is not valid YAML: month must be in 1..12 (correct the file)"),
        ("a: " + "[" * 5000, "is nested too deeply"),
        ("dependencies: []", "installs nothing"),
        ("dependencies: apple", 'dependencies: is "apple", not a list (write it in [ ], or each item after `- `'),
        ("channels: conda-forge\ndependencies: [apple]", 'channels: is "conda-forge", not a list'),
        ("dependencies: [apple]\nvariables: {A: b}", "variables is not supported (remove it, or set them in a `run` step)"),
        ("dependencies: [apple]\nplatforms: [osx-64]", "platforms is not supported (remove it: packages are for linux-64)"),
        ("dependancies: [apple]", '"dependancies" is not a known key here (write dependencies)'),
        ("dependencies: [apple]\nfoo: 1", '"foo" is not a known key here (known keys: name, channels, dependencies, prefix)'),
        ("dependencies: [apple]\npipp: [six]", '"pipp" is not a known key here (write `- pip:` below dependencies)'),
        ("dependencies: [apple, {npm: [x]}]", 'dependencies: "npm" has a value of its own'),
        ("dependencies: [apple, {pipp: [x]}]", 'dependencies: "pipp" is not a known key here (write pip)'),
        ("dependencies: [python: 3.12]", 'dependencies: "python" has a value of its own (write a package so: `- python=1.2`'),
        ("dependencies: [python, pip: six]", 'dependencies: pip: is "six", not a list (write each package after `- `'),
        ("dependencies: [apple, 3.12]", "dependencies[1]: is 3.12, not text"),
        (
            "dependencies: [apple, 'pip:six']",
            'dependencies: "pip:six" is a package for pip (write "six" if a channel has it; else below `pip:`',
        ),
        ("dependencies: [apple, __cuda]", 'dependencies: "__cuda" is a virtual package, which no channel has'),
        ("channels: [null]\ndependencies: [apple]", "channels[0]: is null, not text"),
        ("channels: [/srv/c]\ndependencies: [apple]", 'channels: "/srv/c" is on this computer'),
        ("channels: ['ftp://example.org/c']\ndependencies: [apple]", 'channels: "ftp://example.org/c" is an address with ftp://'),
        ("dependencies: [python, {pip: ['-e .']}]", 'pip: "-e ." is an option (remove it'),
        ("dependencies: [python, {pip: ['-r other.txt']}]", 'pip: "-r other.txt" names another file (write its packages here)'),
        ("dependencies: [python, {pip: ['a b']}]", 'pip: "a b" is not a Python package requirement (write one such as numpy'),
        ("dependencies: [python, {pip: [null]}]", "pip: null is not a Python package requirement"),
        (
            "dependencies: [python, {pip: ['a @ https://example.org/a.whl']}]",
            'pip: "a @ https://example.org/a.whl" has an address (write a name and versions)',
        ),
    ],
)
def test_a_wrong_environment_file_is_reported(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(RecipeError, match=re.escape(f'steps[0].conda.environment: "environment.yml": {reason}')):
        recipe(tmp_path, '{ environment = "environment.yml" }')


def test_all_problems_of_an_environment_file_are_reported(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("channels: x\nfoo: 1\ndependencies: [apple, {pip: ['-e .', '-r other.txt']}]")
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, '{ environment = "environment.yml" }')
    for told in ('"foo" is not a known key', 'channels: is "x", not a list', '"-e ." is an option', '"-r other.txt" names another'):
        assert sum(told in problem for problem in caught.value.problems) == 1


def test_an_environment_file_that_is_a_folder_or_no_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin.yml").write_bytes("name: größe".encode("latin-1"))
    for name, reason in (("folder", "is a folder (write the path of an environment.yml)"), ("latin.yml", "is not UTF-8 text")):
        with pytest.raises(RecipeError, match=re.escape(f'steps[0].conda.environment: "{name}": {reason}')):
            recipe(tmp_path, f'{{ environment = "{name}" }}')


@pytest.mark.parametrize(
    ("conda", "reason"),
    [
        ("{ default = true }", "installs nothing"),
        ('{ packages = ["a"], environment = "environment.yml" }', "has packages and environment"),
        ('["a"]\n[[steps]]\nname = "two"\nconda = ["b"]', "steps[1].conda: is a second conda step"),
        ('["https://me:geheim@example.org/x.conda"]', '"https://***@example.org/x.conda" is not a conda package'),
        ('["pip:requests"]', '"pip:requests" is a package for pip (write "requests" if a channel has it; else below `pip:` in'),
        ('["pip install requests"]', 'is a package for pip (write "requests" if a channel has it'),
        ('["__cuda >=12"]', '"__cuda >=12" is a virtual package, which no channel has (remove it: docs/recipes.md says'),
        (
            '"numpy"',
            'steps[0].conda: is "numpy", not a table (write ["numpy>=2"]; known keys: packages, environment, channels, default)',
        ),
        ('{ packages = ["a"], channels = [] }', "steps[0].conda.channels: is empty (write at least one item, or remove the key)"),
        (
            '{ packages = ["a"], channels = ["/srv/c"] }',
            'channels[0]: "/srv/c" is on this computer, where the builder cannot read it',
        ),
        (
            '{ packages = ["a"], channels = ["ftp://x/c"] }',
            'channels[0]: "ftp://x/c" is an address with ftp://, which a builder does not read',
        ),
        ('{ packages = ["a"], channels = ["a b"] }', 'channels[0]: "a b" is not a conda channel (write one such as "conda-forge"'),
    ],
)
def test_a_wrong_step_is_reported(tmp_path: Path, conda: str, reason: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(reason)):
        recipe(tmp_path, conda)


@pytest.mark.parametrize(
    "place",
    (
        "https://me:geheim@example.org/c",
        "https://me:ge/heim@example.org/c",
        "https://example.org/t/geheim/c",
        "https://example.org/api/t/geheim/c",
    ),
)
def test_no_message_about_a_recipe_shows_a_password(tmp_path: Path, place: str) -> None:
    (tmp_path / "environment.yml").write_text(f"channels: ['{place}']\ndependencies: ['{place}', {{pip: ['a @ {place}']}}]\n")
    steps = (f'{{ packages = ["apple", "{place}"], channels = ["{place}"] }}', f'"{place}"', '{ environment = "environment.yml" }')
    for conda in steps:
        with pytest.raises(RecipeError) as caught:
            recipe(tmp_path, conda)
        assert "heim" not in str(caught.value)


def test_no_advice_shows_a_password(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: ['pip:https://me:geheim@h/x', {https://me:geheim@h/x: y}]\n")
    for conda in ('["pip install git+https://geheim@example.org/o/r"]', '{ environment = "environment.yml" }'):
        with pytest.raises(RecipeError) as caught:
            recipe(tmp_path, conda)
        assert "geheim" not in str(caught.value)
