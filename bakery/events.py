"""What a bake tells while it runs: a few frozen records, which a view shows (bakery.view) or a test collects.

The pipeline tells of a step in this order: StepStarted, any number of LogText, StepEnded. What a user would call a
stage around the recipe's steps (base, boot, seal, test, publish) is told as a step too; notes may come at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step begins: the `seq`-th of `total`, counted from 1 (0 of 0 for a stage that is not counted)."""

    name: str
    seq: int
    total: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended after `seconds`, well or not."""

    name: str
    seconds: float
    ok: bool = True


@dataclass(frozen=True, slots=True)
class LogText:
    """A piece of a step's output, as it came: any number of lines, the last one perhaps not whole."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A line of news that belongs to no step, such as that a builder was started once more."""

    text: str


Event = StepStarted | StepEnded | LogText | Note
OnEvent = Callable[[Event], None]
