"""The progress events of a bake, as frozen records: a view (bakery.view) shows them, a test collects them.

The events of a step are StepStarted, any number of LogText, StepEnded, in this order. Stages around the recipe's steps (stop,
snapshot, inspect, test) are reported as steps, too; notes may come at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step starts: number `seq` of `total`, counted from 1 (0 of 0 for a stage, which is not counted)."""

    name: str
    seq: int
    total: int


@dataclass(frozen=True, slots=True)
class StepEnded:
    """A step has ended after `seconds`: successfully if `ok`; otherwise it has failed, or the user has `interrupted` it.

    `skipped` is why a test could not be run on this machine: it has neither passed nor failed.
    """

    name: str
    seconds: float
    ok: bool = True
    interrupted: bool = False
    skipped: str = ""


@dataclass(frozen=True, slots=True)
class LogText:
    """A piece of a step's output, as received: any number of lines, the last one possibly incomplete."""

    step: str
    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """A message that belongs to no step, such as that a builder is started again."""

    text: str


Event = StepStarted | StepEnded | LogText | Note
OnEvent = Callable[[Event], None]
