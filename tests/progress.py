"""A line per test file, as it starts and as it ends, in place of a dot per test (`--by-file`): a long run shows where it is."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--by-file", action="store_true", help="print a line per file instead of a dot per test")


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.by_file and not hasattr(config, "workerinput"):  # the workers of xdist report to the process that prints
        config.pluginmanager.register(ByFile(config.pluginmanager.getplugin("terminalreporter")))


@dataclass(eq=False)
class ByFile:
    """What is known of each file: when it started, how its tests ended, and which file each process is at."""

    terminal: pytest.TerminalReporter
    began: float = field(default_factory=time.monotonic)
    started: dict[str, float] = field(default_factory=dict)
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        file = nodeid.partition("::")[0]
        if file not in self.started:
            self.started[file] = time.monotonic()
            self._print(f"{file}: started")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        file, process = report.nodeid.partition("::")[0], getattr(report, "worker_id", "")
        if (before := self.current.get(process, file)) != file:
            self._end(before)
        self.current[process] = file
        if report.when == "call" or not report.passed:
            self.outcomes.setdefault(file, Counter())[report.outcome] += 1

    def pytest_sessionfinish(self) -> None:
        for file in self.current.values():
            self._end(file)

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Print no dot for what passes."""
        return ("passed" if report.when == "call" else "", "", "") if report.passed else None

    def _end(self, file: str) -> None:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.outcomes.get(file, Counter()).items()))
        self._print(f"{file}: {counts} in {time.monotonic() - self.started[file]:.0f} s")

    def _print(self, line: str) -> None:
        self.terminal.ensure_newline()
        self.terminal.line(f"[{time.monotonic() - self.began:5.0f} s] {line}")
