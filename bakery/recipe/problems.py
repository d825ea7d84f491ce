"""Problems of a recipe, each as `key.path: what is wrong (what to write instead)`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args

from bakery.recipe.credentials import plain
from bakery.recipe.fields import APT_URI

_SHOWN_MAX = 60

Key = tuple[str | int, ...]
_EXAMPLES: Mapping[str | int, str] = {
    "uri": APT_URI,
    "conda": '["numpy>=2"]',
    "python": '{ packages = ["numpy"] }',
    "copy": '{ from = "data.csv", to = "/opt/data.csv" }',
    "fetch": '{ url = "https://example.org/data.csv", sha256 = "...", to = "/opt/data.csv" }',
    "notebook": "{ }",
    "port": "8443",
    "disk_gb": "20",
    "memory_mb": "4096",
    "lifetime_h": "8",
    "apt_sources": f'{{ name = "lab", uri = {APT_URI}, suite = "stable", components = ["main"] }}',
}
"""What to write for keys whose form a user may not know."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, and the key that it is about."""

    key: Key
    text: str

    def __str__(self) -> str:
        return f"{key_path(self.key)}: {self.text}"


def key_path(key: Key) -> str:
    """Return a key as text, such as `steps[2].copy[0].from`."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{part if _BARE.fullmatch(part) else show(part)}" for part in key]
    return "".join(parts).removeprefix(".")


_BARE = re.compile(r"[A-Za-z0-9_-]+")


def show(value: object) -> str:
    """Return a value for a message: on one line, at most 60 characters, without credentials in URLs."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    value = plain(value) if isinstance(value, str) else value
    text = json.dumps(value, ensure_ascii=False, default=str)
    text = text if text.isprintable() else json.dumps(value, default=str)
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "..."


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return problems sorted by key, without duplicates; those of the same key stay in order."""
    return sorted(
        dict.fromkeys(problems),
        key=lambda problem: [(str(part), 0) if isinstance(part, str) else ("", part) for part in problem.key],
    )


def syntax(error: ValueError, content: bytes) -> str:
    """Return the message for a file that is not valid TOML, starting with the line."""
    if isinstance(error, UnicodeDecodeError):
        line_number = content.count(b"\n", 0, error.start) + 1
        return f"line {line_number}: is not UTF-8 text (save the file as UTF-8)"
    match = re.fullmatch(r"(?s)(.*?) \(at (?:line (\d+), column \d+|end of document)\)", str(error))
    if match is None:
        return f"{str(error).partition(';')[0]} (for the syntax of TOML see toml.io)"
    line = match[2] or str(len(content.rstrip().splitlines()))
    return f"line {line}: {match[1] if match[1].isprintable() else show(match[1])} (for the syntax of TOML see toml.io)"


def invalid(errors: Sequence[Mapping[str, Any]], record: type) -> list[Problem]:
    """Translate pydantic's errors into our messages; `record` is the type that was read."""
    # pydantic also calls a list too short if all its items are wrong, which is already reported for each.
    told = [error for error in errors if error["type"] != "too_short" or not error["input"]]
    return [Problem(error["loc"], _word(error, record)) for error in told]


def _word(error: Mapping[str, Any], record: type) -> str:
    value, context, key = error["input"], error.get("ctx", {}), error["loc"]
    words: dict[str, Callable[[], str]] = {
        "recipe": lambda: f"{show(value)} {error['msg']}",
        "unexpected_keyword_argument": lambda: f"is not a known key here ({_nearest(str(key[-1]), _keys(record, key[:-1]))})",
        "missing": lambda: f"is missing (write {key[-1]} = {_EXAMPLES.get(key[-1], '...')})",
        "int_type": lambda: f"is {show(value)}, not a whole number (write {_unquoted(value, key, '4')}, without quotes)",
        "float_type": lambda: f"is {show(value)}, not a number (write {_unquoted(value, key, '0.5')}, without quotes)",
        "finite_number": lambda: f"is {show(value)} (write a number such as 30)",
        "bool_type": lambda: f"is {show(value)}, not true or false (write one of the two, without quotes)",
        "string_type": lambda: f"is {show(value)}, not text ({'remove it' if value is None else 'write it in quotes'})",
        "dict_type": lambda: f"is {show(value)}, not a table (write {_table(key)})",
        "tuple_type": lambda: f"is {show(value)}, not a list (write it in [ ])",
        "dataclass_type": lambda: f"is {show(value)}, not a table (write {_table(key)}; {_keys_told(_keys(record, key))})",
        "greater_than_equal": lambda: f"is {show(value)} (write {context['ge']:.10g} or more)",
        "less_than_equal": lambda: f"is {show(value)} (write {context['le']:.10g} or less)",
        "literal_error": lambda: f"is {show(value)} (write {context['expected'].replace(chr(39), chr(34))})",
        "too_short": lambda: "is empty (write at least one item, or remove the key)",
    }
    return words.get(error["type"], lambda: f"is {show(value)} ({error['msg']})")()


def _unquoted(value: object, key: Key, usual: str) -> str:
    """Return what to write in place of a value that is no number: the same without quotes, or an example."""
    fraction = "" if usual.isdecimal() else r"(\.[0-9]+)?"
    if isinstance(value, str) and re.fullmatch(rf"(0|[1-9][0-9]{{0,9}}){fraction}", value):
        return value
    return f"one such as {_EXAMPLES.get(key[-1], usual)}"


def _table(key: Key) -> str:
    """Return an example of the table at a key, also if that is an item of a list."""
    name = key[-2] if len(key) > 1 and isinstance(key[-1], int) else key[-1]
    return _EXAMPLES.get(name, "{ key = value }")


def _nearest(key: str, known: Sequence[str]) -> str:
    nearest = get_close_matches(key, known, n=1)
    return f'write "{nearest[0]}"' if nearest else _keys_told(known)


def _keys_told(known: Sequence[str]) -> str:
    return f"known keys: {', '.join(known)}"


def _keys(record: type, key: Key) -> list[str]:
    """Return the keys of the nested record at `key`."""
    for part in key:
        if isinstance(part, str):
            field = next(field for name, field in _fields(record) if name == part)
            record = next(_records(field.annotation))
    return [name for name, _field in _fields(record) if name != "folder"]


def _fields(record: type) -> Iterator[tuple[str, Any]]:
    for name, field in record.__pydantic_fields__.items():  # type: ignore[attr-defined]
        yield field.alias or name, field


def _records(annotation: Any) -> Iterator[type]:
    if is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
    for argument in get_args(annotation):
        yield from _records(argument)
