"""What `doctor` has found: a record that every cloud returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """The state of what was checked. Only a problem is sure to stop a bake or a launch."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"
    UNKNOWN = "unknown"
    """It could not be checked."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check: a fact and what it means, and the command or action that fixes it."""

    state: Health
    text: str
    next_step: str = ""


Check = Callable[[], list[Finding]]
"""Looks at one thing; it changes nothing. A BakehouseError that it raises is a finding too."""


@dataclass(frozen=True, slots=True)
class Size:
    """The largest builder or machine of the recipes; `disk_gb` is in GB, `memory_mb` in MB."""

    cpus: int
    memory_mb: int
    disk_gb: int


def ok(text: str) -> list[Finding]:
    """Return the finding that nothing is wrong."""
    return [Finding(Health.OK, text)]
