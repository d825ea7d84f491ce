"""Run the tests that an image contains on a machine launched from it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from clouds.driver import Cloud
from clouds.errors import NotFoundError, TimedOutError
from launcher.access import ssh

FOLDER = "/usr/lib/bakehouse/tests"
"""The tests on a machine, one executable file each, and their names in order in `.order` (templates/steps/seal.sh.j2)."""
SKIPPED = 77
"""The exit status of a test that cannot be run on a machine, as in templates/frame/step.sh.j2."""
TEST_S = 600.0
"""The time limit of a test, in seconds; multiplied by the cloud's slowness."""
_TAIL_LINES = 20


class Outcome(StrEnum):
    """The result of a test."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Tested:
    """A test that has run: `why` it failed or was skipped, in one line, and the last lines of its output."""

    name: str
    outcome: Outcome
    seconds: float
    why: str = ""
    log: tuple[str, ...] = ()


def check_machine(cloud: Cloud, name: str) -> Iterator[Tested]:
    """Run the tests of a running machine in the order of its recipe, also after one has failed; yield each result at once.

    NotFoundError: its image contains no tests. CloudError: the machine cannot be reached.
    """
    config = Path(ssh.config_of(cloud, name))
    listed = ssh.run(cloud, name, ["cat", f"{FOLDER}/.order"], config=config)
    if listed.returncode:
        raise NotFoundError(
            f"machine {name!r}: its image contains no tests",
            next_step="Add [[tests]] to the recipe, bake it with this version of Bakehouse, and launch a new machine.",
        )
    for test in listed.stdout.split():
        yield _run(cloud, name, test, config)


def _run(cloud: Cloud, name: str, test: str, config: Path) -> Tested:
    began = time.monotonic()
    try:
        done = ssh.run(cloud, name, [f"{FOLDER}/{test}"], timeout_s=TEST_S, config=config)
    except TimedOutError as error:
        return Tested(test, Outcome.FAILED, time.monotonic() - began, error.message)
    seconds = time.monotonic() - began
    log = tuple(line for line in (done.stdout + done.stderr).splitlines() if line.strip())[-_TAIL_LINES:]
    if done.returncode == SKIPPED:
        return Tested(test, Outcome.SKIPPED, seconds, log[-1] if log else f"exit status {SKIPPED}")
    if done.returncode:
        return Tested(test, Outcome.FAILED, seconds, f"exit status {done.returncode}", log)
    return Tested(test, Outcome.PASSED, seconds)
