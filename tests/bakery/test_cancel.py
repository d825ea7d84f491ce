"""A bake that is a process of its own, as the parts of a parallel bake are: how its parent ends it, and what that leaves."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from clouds.waiter import until
from launcher.command.outcome import Outcome, outcome
from tests import forked

pytestmark = pytest.mark.program

ROOT = Path(__file__).parents[2]
STAGES = {
    "before the builder is requested": ("boot", 1, "before"),
    "when the builder exists": ("boot", 1, "after"),
    "while its console is read": ("console", 2, "before"),
    "when the image exists": ("snapshot", 1, "after"),
    "while memory is saved": ("freeze", 1, "before"),
    "while the image is tested": ("restore", 1, "after"),
    "before the image is published": ("label", 1, "before"),
}


@contextmanager
def baking(folder: Path, operation: str = "none", nth: int = 1, when: str = "before", *flags: str) -> Iterator[forked.Process]:
    """Run a bake that stops at such a call; it gets there first."""
    words = (str(folder), operation, str(nth), when, *flags)
    process = forked.start("tests.bake_process", *words, cwd=ROOT, environ=os.environ | {"BAKEHOUSE_HOME": str(folder / "home")})
    try:
        if operation not in ("none", "refused"):
            until(lambda: _is_there(folder, process), what=operation, timeout_s=60, poll_s=0.01)
        yield process
    except BaseException:
        process.send_signal(signal.SIGKILL)
        process.wait()
        raise


def _is_there(folder: Path, process: forked.Process) -> bool:
    assert not process.has_ended()
    return (folder / "there").exists()


def ended(process: forked.Process, folder: Path) -> tuple[int, dict[str, object], list[str]]:
    """Return the exit status of a bake, the last line that it wrote, and what is left."""
    done = process.wait()
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), (folder / "left").read_text().splitlines()


@pytest.mark.matrix(sample=3)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_bake_that_is_ended_by_a_signal_leaves_nothing_and_says_so(tmp_path: Path, stage: str, number: signal.Signals) -> None:
    with baking(tmp_path, *STAGES[stage]) as process:
        process.send_signal(number)
        status, told, left = ended(process, tmp_path)
    assert (status, outcome(status)) == (128 + number, Outcome.CANCELLED)
    assert told["error"] == f"interrupted ({number.name})"
    assert left == []


def test_more_signals_while_it_cleans_up_have_no_effect(tmp_path: Path) -> None:
    """Ctrl-C goes to every process of a terminal, and the parent ends its children besides; here they come without a pause."""
    with baking(tmp_path, "restore", 1, "after", "--slow-cleanup") as process:
        process.send_signal(signal.SIGINT)
        until((tmp_path / "cleaning").exists, what="cleanup", timeout_s=60, poll_s=0.01)
        with ThreadPoolExecutor() as pool:
            pool.submit(_press, process)
            time.sleep(1.5)
            (tmp_path / "more").touch()
            status, told, left = ended(process, tmp_path)
    assert (status, told["error"], left) == (130, "interrupted (SIGINT)", [])


def _press(process: forked.Process) -> None:
    while not process.has_ended():
        process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize(
    ("status", "end"),
    [
        *((0, Outcome.SUCCEEDED), (141, Outcome.SUCCEEDED)),
        *((1, Outcome.FAILED), (2, Outcome.FAILED), (3, Outcome.FAILED), (-signal.SIGKILL, Outcome.FAILED)),
        *((130, Outcome.CANCELLED), (143, Outcome.CANCELLED), (129, Outcome.CANCELLED), (-signal.SIGTERM, Outcome.CANCELLED)),
    ],
)
def test_exit_status_tells_how_a_command_has_ended(status: int, end: Outcome) -> None:
    assert outcome(status) is end


def test_bake_that_ends_well_or_fails_is_told_apart_from_one_that_was_ended(tmp_path: Path) -> None:
    with baking(tmp_path) as process:
        status, told, left = ended(process, tmp_path)
    assert (outcome(status), told["recipe"]) == (Outcome.SUCCEEDED, "tiny")
    assert len(left) == 2  # the image and its entry in the ledger


def test_bake_that_fails_is_told_apart_too(tmp_path: Path) -> None:
    with baking(tmp_path, "refused") as process:
        status, told, left = ended(process, tmp_path)
    assert (outcome(status), told["error"], left) == (Outcome.FAILED, "refused", [])
