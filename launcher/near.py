"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, others: Iterable[str], *, otherwise: str) -> str:
    """Return the question for an error's next step, or `otherwise` when nothing comes near."""
    near = difflib.get_close_matches(name, others, n=3)
    return f"Did you mean {' or '.join(near)}?" if near else otherwise
