"""Every command that a text of the source advises is one that the command line takes, and says which cloud it is for."""

from __future__ import annotations

import argparse
import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bakery.cli
import launcher.command.verbs
import tasks
from launcher.command import hints
from launcher.command.flags import Verb
from launcher.command.hints import Command

ROOT = Path(__file__).parents[1]
VERBS = {verb.name: verb for verb in (*launcher.command.verbs.VERBS, *bakery.cli.VERBS, *tasks.VERBS)}
HOLE = "HOLE"
"""Stands for what an f-string fills in."""


def texts(source: str) -> Iterator[str]:
    """Yield every text of a module but its docstrings, those of f-strings with HOLE for what is filled in."""
    nodes = list(ast.walk(ast.parse(source)))
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else HOLE for part in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner | docstrings:
            yield node.value


def sources() -> dict[str, str]:
    """Return the text of each module, by its path."""
    files = [ROOT / "tasks.py", *(path for folder in ("clouds", "launcher", "bakery") for path in (ROOT / folder).rglob("*.py"))]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sorted(files)}


@functools.cache
def advised() -> list[tuple[str, Command]]:
    """Return each command in the texts of the source, with the file that it stands in.

    Each process of the tests needs them for the names of its tests, so only a module in which "./inv" stands is parsed here;
    a text that is put together otherwise fails test_every_command_in_a_text_is_found, which parses all.
    """
    return [
        (path, part)
        for path, source in sources().items()
        if "./inv" in source
        for text in texts(source)
        for part in hints.read(text)
        if isinstance(part, Command) and HOLE not in part.verb
    ]


def refusal(command: Command) -> str:
    """Return why the command line would not take a command, or ""."""
    verb = VERBS.get(command.verb)
    if verb is None:
        return f"no verb {command.verb}"
    try:
        parser(verb).parse_args(str(command).split(" -- ")[0].split()[2:])
    except argparse.ArgumentError as error:
        return str(error)
    return ""


class Strict(argparse.ArgumentParser):
    def error(self, message: str) -> None:  # type: ignore[override]
        raise argparse.ArgumentError(None, message)


def parser(verb: Verb) -> Strict:
    made = Strict(allow_abbrev=False, add_help=False)
    for positional in verb.positionals:
        made.add_argument(positional.name)
    for flag in verb.flags:
        made.add_argument(f"--{flag.name}", action="store_true" if flag.parse is None else "store")
    return made


def test_advised_commands_are_ones_that_the_command_line_takes() -> None:
    refused = {}
    for file, command in sorted({(file, str(command)) for file, command in advised()}):
        (found,) = (part for part in hints.read(command) if isinstance(part, Command))
        refused[file, command] = refusal(found)
    assert {place: why for place, why in refused.items() if why} == {}


def test_every_command_in_a_text_is_found() -> None:
    """One whose verb is cut short or swallowed would be advised as it stands."""
    written = [
        match for source in sources().values() for text in texts(source) for match in re.findall(r"\./inv [a-z][a-z-]*", text)
    ]
    assert len(written) > 60
    assert sorted(written) == sorted(f"./inv {command.verb}" for _, command in advised())


@pytest.mark.parametrize("flag", ["cloud", "region"])
def test_verbs_that_take_a_cloud_and_a_region_are_those_of_the_table(flag: str) -> None:
    """`rebuild` takes several clouds."""
    taking = {name for name, verb in VERBS.items() if any(one.name == flag for one in verb.flags)}
    assert taking - {"rebuild"} == hints.OF_A_CLOUD


@pytest.mark.parametrize("command", ["./inv delete", "./inv start a b", "./inv gc --layer", "./inv launch now", "./inv bak"])
def test_command_that_the_command_line_refuses_is_noticed(command: str) -> None:
    (found,) = (part for part in hints.read(command) if isinstance(part, Command))
    assert refusal(found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Start it: ./inv start lab", "Start it: ./inv start lab --cloud faraway"),
        ("./inv delete-image r-1.4.0-7 --yes", "./inv delete-image r-1.4.0-7 --yes --cloud faraway"),
        ("./inv ssh lab, ./inv log lab.", "./inv ssh lab --cloud faraway, ./inv log lab --cloud faraway."),
        ("./inv stop lab && ./inv start lab", "./inv stop lab --cloud faraway && ./inv start lab --cloud faraway"),
        ("(see ./inv machines) and more", "(see ./inv machines --cloud faraway) and more"),
        ("./inv ssh lab -- ls -la", "./inv ssh lab --cloud faraway -- ls -la"),
        ("./inv copy a.csv lab:work/", "./inv copy a.csv lab:work/ --cloud faraway"),
        ("Found: ./inv launch --recipe a --cloud gcp", "Found: ./inv launch --recipe a --cloud gcp"),
        ("See: ./inv images --cloud all; ./inv gc", "See: ./inv images --cloud all; ./inv gc --cloud faraway"),
        ("See: ./inv recipes", "See: ./inv recipes"),
        ("See: ./inv --list", "See: ./inv --list"),
    ],
)
def test_commands_of_a_text_are_written_for_a_cloud(text: str, told: str) -> None:
    assert hints.write(text, "faraway") == told
    assert hints.write(text, "") == text


@pytest.mark.parametrize(
    ("cloud", "told"),
    [
        ("", "./inv stop lab --region r; ./inv ssh lab --region r -- ls; ./inv gc --region all; ./inv images --cloud b"),
        (
            "a",
            "./inv stop lab --cloud a --region r; ./inv ssh lab --cloud a --region r -- ls; ./inv gc --cloud a --region all; "
            "./inv images --cloud b",
        ),
    ],
)
def test_commands_of_a_text_are_written_for_a_region(cloud: str, told: str) -> None:
    text = "./inv stop lab; ./inv ssh lab -- ls; ./inv gc --region all; ./inv images --cloud b"
    assert hints.write(text, cloud, "r") == told
    assert hints.write(told, cloud, "r") == told


words = st.lists(st.from_regex(r"[a-z0-9][a-z0-9./:-]{0,8}[a-z0-9/]|--[a-z-]{1,8}", fullmatch=True), max_size=4).map(tuple)


@given(
    st.sampled_from(sorted(VERBS)),
    words,
    st.sampled_from(["", "gcp"]),
    st.sampled_from(["", "eu-west-1"]),
    st.sampled_from(["", ".", ", then", ") so", "; and", "\nx"]),
)
def test_command_that_is_written_is_read_again(verb: str, said: tuple[str, ...], cloud: str, region: str, behind: str) -> None:
    is_placed = verb in hints.OF_A_CLOUD
    command = Command(verb, said, cloud if is_placed else "", region if is_placed else "")
    assert [part for part in hints.read(f"Do: {command}{behind}") if part] == ["Do: ", command, *([behind] if behind else [])]
