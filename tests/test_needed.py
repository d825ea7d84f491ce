"""A permission that Bakehouse has needed in a run of the tests, and that docs/permissions does not grant, fails the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests import needed


def session(**more: Any) -> Any:
    return SimpleNamespace(config=SimpleNamespace(**more), exitstatus=pytest.ExitCode.OK)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Give what the plugin has seen in a run of its own."""
    found: set[str] = set()
    monkeypatch.setattr(needed, "_seen", found)
    return found


def test_what_is_granted_passes_and_what_is_not_fails_the_run(seen: set[str]) -> None:
    plugin, run = needed.Plugin(), session()
    needed.note(["ec2:RunInstances", "compute.instances.create"])
    plugin.pytest_sessionfinish(run)
    assert (plugin.found, run.exitstatus) == ([], pytest.ExitCode.OK)
    needed.note(["ec2:RebootInstances"])
    plugin.pytest_sessionfinish(run)
    assert (plugin.found, run.exitstatus) == (["ec2:RebootInstances"], pytest.ExitCode.TESTS_FAILED)


def test_what_a_process_of_xdist_has_seen_reaches_the_one_that_compares(seen: set[str]) -> None:
    process = session(workeroutput={})
    needed.note(["ec2:RebootInstances"])
    needed.Plugin().pytest_sessionfinish(process)
    assert process.exitstatus == pytest.ExitCode.OK
    seen.clear()
    plugin, run = needed.Plugin(), session()
    plugin.pytest_testnodedown(process.config)
    plugin.pytest_sessionfinish(run)
    assert plugin.found == ["ec2:RebootInstances"]


def test_page_names_each_file() -> None:
    page = (needed.FOLDER.parent / "permissions.md").read_text(encoding="utf-8")
    assert [path.name for path in needed.FOLDER.iterdir() if f"(permissions/{path.name})" not in page] == []
