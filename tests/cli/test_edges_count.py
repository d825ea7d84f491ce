"""How many cases the tests of the edges have."""

from __future__ import annotations

import importlib

import pytest

MODULES = (
    "cli.test_edges_syntax",
    "cli.test_edges_typed",
    "cli.test_edges_settings",
    "cli.test_edges_store",
    "cli.test_edges_resume",
)
SLOW = ("clouds.local.test_edges", "clouds.test_edges")


@pytest.mark.program
def test_the_table_of_verbs_gives_thousands_of_cases() -> None:
    counts = {name: importlib.import_module(f"tests.{name}").CASES for name in (*MODULES, *SLOW)}
    assert sum(counts.values()) > 10_000, counts
    assert min(counts.values()) > 100, counts
