"""The errors of recipes and bakes. They extend the tree of `clouds.errors`, by which the front ends report them all.

UsageError
└── RecipeError                exit 2: a recipe is wrong; `problems` lists all of it at once
BakeError
├── StepFailedError            a step ended with an error: step, line, exit status, last lines
│   └── GuestFullError         the builder's disk is full
├── BuilderDiedError           the builder ended before it was told to
├── BuilderSilentError         no sign of life until the deadline
├── NotSealedError             the finished disk still holds secrets or traces: `log` lists them
└── TestsFailedError           the image failed its tests on a fresh boot
"""

from __future__ import annotations

from collections.abc import Sequence

from clouds.errors import BakeError, UsageError


class RecipeError(UsageError):
    """A recipe is wrong; `problems` holds one `file: key.path: what (what instead)` per problem."""

    def __init__(self, problems: Sequence[str], *, next_step: str = "") -> None:
        super().__init__("\n".join(problems), next_step=next_step or "Each key is explained in docs/recipes.md.")
        self.problems = tuple(problems)


class StepFailedError(BakeError):
    """A step ended with an error."""


class GuestFullError(StepFailedError):
    """A step failed because the builder's disk is full."""


class BuilderDiedError(BakeError):
    """The builder ended before it was told to."""


class BuilderSilentError(BakeError):
    """The builder gave no sign of life until the deadline."""


class NotSealedError(BakeError):
    """The finished disk still holds secrets or traces; `log` lists them."""


class TestsFailedError(BakeError):
    """The image failed its own tests on a fresh boot; it stays as a candidate."""

    __test__ = False  # not a pytest class
