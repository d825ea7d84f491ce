"""Field masks: `fields=items(name,status),nextPageToken`."""

from __future__ import annotations

import re
from typing import Any

from tests.servers.gce.errors import ApiError

Mask = dict[str, Any]

_TOKEN = re.compile(r"[(),/]|[^(),/\s]+")


def apply(mask: str, answer: Any) -> Any:
    """Return the part of an answer that a mask selects; raises ApiError 400 for what is no mask."""
    tokens = _TOKEN.findall(mask)
    tree, rest = _read(tokens)
    if rest or not tree:
        raise _error(mask)
    return _select(tree, answer)


def _error(mask: str) -> ApiError:
    return ApiError(400, "invalidParameter", f"Invalid field selection {mask}")


def _read(tokens: list[str]) -> tuple[Mask, list[str]]:
    tree: Mask = {}
    while tokens and tokens[0] != ")":
        if tokens[0] == ",":
            tokens = tokens[1:]
            continue
        tokens = _read_path(tree, tokens)
    return tree, tokens


def _read_path(tree: Mask, tokens: list[str]) -> list[str]:
    name, tokens = tokens[0], tokens[1:]
    if name in "(/":
        raise _error(name)
    inner = tree.setdefault(name, {})
    if tokens and tokens[0] == "/":
        return _read_path(inner, tokens[1:]) if len(tokens) > 1 else tokens
    if tokens and tokens[0] == "(":
        found, rest = _read(tokens[1:])
        if not rest:
            raise _error("(")
        inner.update(found)
        return rest[1:]
    return tokens


def _select(tree: Mask, answer: Any) -> Any:
    if not tree:
        return answer
    if isinstance(answer, list):
        return [_select(tree, item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    wanted = {key: tree[key] if key in tree else tree["*"] for key in answer if key in tree or "*" in tree}
    return {key: _select(inner, answer[key]) for key, inner in wanted.items()}
