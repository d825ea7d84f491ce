"""Suggestions for a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, others: Iterable[str]) -> list[str]:
    """Return at most three similar names, the most similar first; upper and lower case, and the dashes of flags, do not count."""
    spelled = {_plain(other): other for other in others}
    return [spelled[found] for found in difflib.get_close_matches(_plain(name), spelled, n=3)]


def _plain(name: str) -> str:
    return name.lower().lstrip("-")


def did_you_mean(name: str, others: Iterable[str], *, otherwise: str) -> str:
    """Return a suggestion for an error's next step, or `otherwise` if no name is similar."""
    found = near(name, others)
    return f"Did you mean {' or '.join(found)}?" if found else otherwise
