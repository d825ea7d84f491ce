"""The tree of errors is the one that is drawn, and the front door knows each of them."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import bakery.errors
import clouds.errors
from clouds.errors import BakehouseError, GuestError, NotConfirmedError, UsageError
from launcher.command import runner

ROOT = Path(__file__).parents[1]
MODULES = (clouds.errors, bakery.errors)


def defined(module: ModuleType) -> list[type[BakehouseError]]:
    found = [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, BakehouseError)]
    return [value for value in found if value.__module__ == module.__name__]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.__name__))
def test_drawn_tree_names_every_error_of_its_module(module: ModuleType) -> None:
    drawn = set(re.findall(r"\b[A-Z]\w*Error\b", module.__doc__ or ""))
    assert {error.__name__ for error in defined(module)} <= drawn
    assert drawn <= {error.__name__ for one in MODULES for error in defined(one)}


@pytest.mark.parametrize("kind", [error for module in MODULES for error in defined(module)], ids=lambda kind: str(kind.__name__))
def test_front_door_tells_every_error_with_its_cause_and_exit_code(kind: type[BakehouseError]) -> None:
    error = kind.__new__(kind)
    BakehouseError.__init__(error, "it broke", next_step="Fix it.")
    if isinstance(error, GuestError):
        error.step, error.log = "packages", ("a line",)
    assert error.exit_code == (2 if issubclass(kind, UsageError) else 1)
    told = runner.lines(error)
    cause = "it broke" if kind is NotConfirmedError else "error: it broke"
    assert (told[0], told[-1]) == (cause, "next: Fix it.")
    assert ("  | a line" in told) == isinstance(error, GuestError)


def test_errors_of_bakes_alone_are_defined_in_the_bakery() -> None:
    below = [path for layer in ("clouds", "launcher") for path in (ROOT / layer).rglob("*.py") if path != ROOT / "clouds/errors.py"]
    used = set(re.findall(r"\b[A-Z]\w*Error\b", "\n".join(path.read_text(encoding="utf-8") for path in below)))
    assert {error.__name__ for error in defined(clouds.errors)} - used == set()
    assert not any("Bake" in error.__name__ for error in defined(clouds.errors) if error is not BakehouseError)
