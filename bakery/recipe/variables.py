"""Substitute a recipe's variables: `{{ name }}` in the texts of its steps and tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from bakery.recipe.problems import Problem, show

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_USE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*(?:\|\s*(\w+)\s*)?\}\}")
"""Jinja's syntax for a variable and a filter, `quote`; other braces belong to the shell or another program."""


def expand(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the raw recipe with its variables substituted, and their problems.

    A recipe without [variables] is unchanged, whatever braces it contains.
    """
    values = raw.get("variables", {})
    problems = _problems(values)
    if problems or not values:
        return dict(raw), problems
    expanded = {key: _put_in(raw[key], values, (key,), problems) if key in ("steps", "tests") else raw[key] for key in raw}
    return expanded, problems


def put_in(text: str, values: Mapping[str, str]) -> str:
    """Return a text with its variables substituted, for the content of a script file; unknown ones stay."""
    return _USE.sub(lambda use: _value(use, values), text) if values else text


def unknown(text: str, values: Mapping[str, str]) -> list[str]:
    """Return the names in a text that are not variables, without those with a filter: another program may have such a syntax."""
    return sorted({use[1] for use in _USE.finditer(text) if use[2] in (None, "quote")} - set(values)) if values else []


def unknown_filters(text: str, values: Mapping[str, str]) -> list[str]:
    """Return the filters of variables in a text that there are not."""
    return sorted({use[2] for use in _USE.finditer(text) if use[1] in values and use[2] not in (None, "quote")})


def _problems(values: object) -> list[Problem]:
    """Return the problems of the table [variables] itself."""
    if not isinstance(values, dict):
        return [
            Problem(
                ("variables",), f'is {show(values)}, not a table (write [variables], and below it lines such as version = "1.2")'
            )
        ]
    return [
        Problem(("variables", key), f"{show(key)} is not a variable name (write a-z, 0-9 and '_', starting with a letter)")
        for key in values
        if not _NAME.fullmatch(key)
    ] + [
        Problem(("variables", key), f"is {show(value)}, not text (write it in quotes)")
        for key, value in values.items()
        if not isinstance(value, str)
    ]


def _put_in(raw: Any, values: Mapping[str, str], at: tuple[str | int, ...], problems: list[Problem]) -> Any:
    if isinstance(raw, str):
        problems += [Problem(at, told(name, values)) for name in unknown(raw, values)]
        problems += [Problem(at, f"| {name}: no such filter (write | quote)") for name in unknown_filters(raw, values)]
        return put_in(raw, values)
    if isinstance(raw, list):
        return [_put_in(part, values, (*at, index), problems) for index, part in enumerate(raw)]
    if isinstance(raw, dict):
        return {key: _put_in(part, values, (*at, key), problems) for key, part in raw.items()}
    return raw


def told(name: str, values: Mapping[str, str]) -> str:
    """Return the message for an unknown variable."""
    nearest = get_close_matches(name, values, n=1)
    instead = f"write {{{{ {nearest[0]} }}}}" if nearest else f"add {name} to [variables]; known: {', '.join(values)}"
    return f"{{{{ {name} }}}} is not a variable of this recipe ({instead})"


def _value(use: re.Match[str], values: Mapping[str, str]) -> str:
    value = values.get(use[1])
    if value is None or use[2] not in (None, "quote"):
        return use[0]
    return shlex.quote(value) if use[2] else value
