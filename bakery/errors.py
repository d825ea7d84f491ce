"""The errors of recipes and bakes. They extend the tree of `clouds.errors`, which the front ends report.

UsageError
└── RecipeError                exit 2: a recipe is wrong; `problems` lists all problems
GuestError
└── BakeError                  a bake failed
    ├── StepFailedError            a step failed: step, line, exit status, last lines
    │   └── GuestFullError         the builder's disk is full
    ├── BuilderDiedError           the builder stopped unexpectedly
    ├── BuilderSilentError         no output until the deadline
    ├── NotSealedError             the finished disk contains secrets or traces (its message lists them), or was not searched
    └── TestsFailedError           the image failed its tests on a fresh boot
"""

from __future__ import annotations

from collections.abc import Sequence

from clouds.errors import GuestError, UsageError


class RecipeError(UsageError):
    """A recipe is wrong; `problems` has one `file: key.path: what is wrong (what to write instead)` per problem."""

    def __init__(self, problems: Sequence[str], *, next_step: str = "") -> None:
        super().__init__("\n".join(problems), next_step=next_step or "For the meaning of each key see docs/recipes.md.")
        self.problems = tuple(problems)


class BakeError(GuestError):
    """A bake failed."""


class StepFailedError(BakeError):
    """A step failed."""


class GuestFullError(StepFailedError):
    """A step failed because the builder's disk is full."""


class BuilderDiedError(BakeError):
    """The builder stopped unexpectedly."""


class BuilderSilentError(BakeError):
    """The builder printed nothing until the deadline."""


class NotSealedError(BakeError):
    """The finished disk contains secrets or traces; it is kept as a candidate that cannot be launched.

    `findings` is their number; 0: the search did not finish. `is_final`: the recipe cannot allow all of them, so the image must be
    baked again.
    """

    findings = 0
    is_final = False


class TestsFailedError(BakeError):
    """The image failed its tests on a fresh boot; it is kept as a candidate."""

    __test__ = False  # not a pytest class
