"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def near(name: str, others: Iterable[str]) -> list[str]:
    """Return the names that come near, the nearest first: three at most."""
    return difflib.get_close_matches(name, others, n=3)


def did_you_mean(name: str, others: Iterable[str], *, otherwise: str) -> str:
    """Return the question for an error's next step, or `otherwise` when nothing comes near."""
    found = near(name, others)
    return f"Did you mean {' or '.join(found)}?" if found else otherwise
