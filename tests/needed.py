"""Permissions: what Bakehouse has needed in this run of the tests, as the servers saw it, and what docs/permissions grants.

A run fails if Bakehouse needed a permission that none of the files grants. That each role's file grants nothing else than what its
verbs need is tested in tests/clouds (`test_permissions`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

ELSEWHERE = {"iam.serviceAccounts.actAs"}
"""What is granted on another resource, by a role of Google's own: docs/permissions.md."""
FOLDER = Path(__file__).parents[1] / "docs/permissions"
_seen: set[str] = set()


def note(permissions: Iterable[str]) -> None:
    """Remember what a request of Bakehouse needs."""
    _seen.update(permissions)


def aws(*names: str, account: str = "111122223333") -> list[dict[str, Any]]:
    """Return the statements of policies (`bake`: docs/permissions/aws-bake.json), for the roles of an account."""
    texts = [(FOLDER / f"aws-{name}.json").read_text(encoding="utf-8").replace("111122223333", account) for name in names]
    return [statement for text in texts for statement in json.loads(text)["Statement"]]


def gcp(*names: str) -> list[tuple[frozenset[str], str]]:
    """Return the permissions of custom roles (`bake`: gcp-bake.yaml), each with the condition of its binding ("": none)."""
    roles = ((_yaml(f"gcp-{name}"), _yaml(f"gcp-{name}-condition")) for name in names)
    return [(frozenset(role["includedPermissions"]), str(condition.get("expression", ""))) for role, condition in roles]


def _yaml(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.yaml"
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def granted() -> set[str]:
    """Return what the files grant together."""
    names = (path.stem.partition("-") for path in FOLDER.glob("*.*"))
    found: set[str] = set()
    for cloud, _, name in names:
        if cloud == "gcp":
            found.update(_yaml(f"gcp-{name}").get("includedPermissions", ()))
            continue
        for statement in aws(name):
            found.update([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    return found


def missing(seen: Iterable[str]) -> list[str]:
    """Return the permissions that no file grants, sorted."""
    return sorted(set(seen) - granted() - ELSEWHERE)


class Plugin:
    """Gathers what the processes of a run have seen, and lets the run fail for what is missing."""

    def __init__(self) -> None:
        self.found: list[str] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        note(getattr(node, "workeroutput", {}).get("needed", ()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.found = missing(_seen)
        if hasattr(session.config, "workeroutput"):  # a process of xdist: the one that started it compares
            session.config.workeroutput["needed"] = sorted(_seen)
        elif self.found and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for permission in self.found:
            terminalreporter.line(f"FAILED docs/permissions: Bakehouse needed {permission}, which no file there grants", red=True)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Plugin())
