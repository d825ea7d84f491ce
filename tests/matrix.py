"""Matrices: many cases of one behaviour. `--all` runs every case; otherwise the edges run, and a sample drawn by the commit's id.

    @pytest.mark.matrix(sample=2)                       the first case, the last one, and two of the others
    @pytest.mark.matrix(sample=2, edges=["a", "b"])     these cases (the ids of their parameters), and two of the others
    @pytest.mark.matrix(sample=1, edges=[])             one case
    @pytest.mark.matrix(sample=0, edges=[])             none: it runs with `--all` only
    @pytest.mark.long                                   half of all tests that are marked so

Each commit draws another sample, so successive commits cover every case. BAKEHOUSE_TEST_SAMPLE=ID repeats the draw of a commit.

Properties (hypothesis) likewise: `--all` tries all examples, otherwise a third of them. `examples` is for those that cost more.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
EXAMPLES = 100
"""Hypothesis's own number of examples of a property."""
SHOWN = 12
"""Up to how many cases of a matrix are printed by name; the ids of more of them are found by repeating the draw."""


def drawn_by() -> str:
    """Return what draws the samples: the id of the commit that is checked out, "" in a copy without history."""
    if given := os.environ.get("BAKEHOUSE_TEST_SAMPLE"):
        return given
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


def draw(cases: Sequence[str], seed: str, *, sample: int, edges: Sequence[str] | None = None) -> set[str]:
    """Return the cases that run: the edges (by default the first and the last), and a sample of the others.

    Raises ValueError for an edge that is not a case.
    """
    kept = set((cases[0], cases[-1]) if edges is None else edges)
    if unknown := kept - set(cases):
        raise ValueError(f"not a case of this matrix: {', '.join(sorted(unknown))}")
    others = [case for case in cases if case not in kept]
    return kept | set(random.Random(seed).sample(others, min(sample, len(others))))


def examples(every: int) -> int:
    """Return how many examples of a property to try, of as many as `--all` tries."""
    return every * settings.default.max_examples // EXAMPLES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run every case of every matrix")


def pytest_report_header(config: pytest.Config) -> str:
    if config.option.all:
        return "matrices: every case"
    return f"matrices: edges, and the sample of BAKEHOUSE_TEST_SAMPLE={drawn_by()} (--all: every case)"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the cases that are not drawn; a case that is asked for by name (an argument, or `-k`) always runs."""
    if config.option.all or config.option.keyword or any("[" in argument for argument in config.args):
        return
    matrices: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("matrix"):
            matrices.setdefault(item.nodeid.partition("[")[0], []).append(item)
    left_out: set[pytest.Item] = set()
    for name, cases in matrices.items():
        left_out |= _left_out(name, cases)
    if not any("::" in argument for argument in config.args):
        left_out |= _left_out_of_long([item for item in items if item.get_closest_marker("long")])
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _left_out(name: str, cases: Sequence[pytest.Function]) -> set[pytest.Item]:
    """Return the cases of a matrix that do not run; those that do tell the report how many they are."""
    marker = cases[0].get_closest_marker("matrix")
    assert marker
    kept = draw([case.callspec.id for case in cases], f"{drawn_by()} {name}", **marker.kwargs)
    for case in cases:
        case.user_properties.append(("matrix", f"{name}: {len(kept)} of {len(cases)}"))
    return {case for case in cases if case.callspec.id not in kept}


def _left_out_of_long(tests: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Return the long tests that do not run; those that do tell the report how many they are."""
    left_out = set(random.Random(f"{drawn_by()} long").sample(tests, len(tests) // 2))
    for test in tests:
        test.user_properties.append(("matrix", f"long tests: {len(tests) - len(left_out)} of {len(tests)}"))
    return left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which cases of each matrix ran."""
    ran: dict[str, list[str]] = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for key, matrix in report.user_properties:
            if key == "matrix" and report.when == "call":
                name = report.nodeid.rpartition("::")[2]
                ran.setdefault(matrix, []).append(name.partition("[")[2].partition("]")[0] or name)
    if ran:
        terminalreporter.section("cases of matrices that ran")
    for matrix, cases in sorted(ran.items()):
        terminalreporter.line(matrix + (f" ({', '.join(sorted(cases))})" if len(cases) <= SHOWN else ""))
