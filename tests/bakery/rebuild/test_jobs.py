"""Several bakes at the same time: each in its own process, none stopped by another's failure, all stopped by Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bakery.events import Event, Note, StepEnded, StepStarted
from bakery.rebuild.jobs import Ended, Job, run
from bakery.rebuild.view import choose
from launcher.command.outcome import Outcome

BAKES = r"""
import json, sys
def tell(**value):
    print(json.dumps(value), flush=True)
tell(event="note", text="bake-1: baking")
tell(event="step-started", name="tools", seq=1, total=2)
tell(event="step-ended", name="tools", seconds=1.5, ok=True, interrupted=False, skipped="")
tell(event="of-a-later-release", x=1)
print("no JSON")
tell(image="jupyter-1.0-1", recipe="jupyter", reused=False)
"""
FAILS = "import sys; print('error: no quota', 'next: Ask for more.', sep='\\n', file=sys.stderr); sys.exit(1)"
SAYS_MORE = r"""
import sys
sys.exit("a warning\nerror: step 'tools' failed\n  | its log\nnext: See the log.\n      Bake again.")
"""
WAITS = r"""
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1]).write_text("cleaned up")
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print('{"event": "note", "text": "waits"}', flush=True)
time.sleep(60)
"""


@dataclass(frozen=True, slots=True)
class Program(Job):
    """A job that runs a program of ours in place of a bake."""

    program: str = BAKES
    argument: str = ""

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-I", "-c", self.program, self.argument]


@dataclass(slots=True)
class Seen:
    """What a follower was given."""

    events: list[tuple[Job, Event]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    is_waiting: threading.Event = field(default_factory=threading.Event)

    def show(self, job: Job, event: Event) -> None:
        self.events.append((job, event))
        self.is_waiting.set()

    def end(self, ended: Ended) -> None:
        self.ended.append(ended)


def test_each_is_followed_and_a_failure_stops_no_other() -> None:
    jobs = [Program("jupyter", "local"), Program("jupyter", "gcp", FAILS), Program("minimal", "aws")]
    seen = Seen()
    first, second, third = run(jobs, at_once=2, follower=seen)
    assert (first.outcome, first.image, first.error) == (Outcome.SUCCEEDED, "jupyter-1.0-1", "")
    assert (second.outcome, second.image, second.error, second.next_step) == (Outcome.FAILED, "", "no quota", "Ask for more.")
    assert third.outcome is Outcome.SUCCEEDED
    started, ended = StepStarted("tools", 1, 2), StepEnded("tools", 1.5)
    assert [event for job, event in seen.events if job == jobs[0]] == [Note("bake-1: baking"), started, ended]
    assert {one.job for one in seen.ended} == set(jobs)


def test_the_cause_of_a_failure_is_told_whatever_else_is_printed() -> None:
    (ended,) = run([Program("jupyter", "gcp", SAYS_MORE)], at_once=1, follower=Seen())
    assert (ended.error, ended.details, ended.next_step) == ("step 'tools' failed", ["  | its log"], "See the log. Bake again.")


def test_a_bake_that_is_killed_has_its_status_for_a_cause() -> None:
    (ended,) = run([Program("jupyter", "gcp", "import os; os.kill(os.getpid(), 9)")], at_once=1, follower=Seen())
    assert (ended.outcome, ended.error) == (Outcome.FAILED, "it has ended without a message (status -9)")


def test_a_bake_that_cannot_be_started_stops_no_other() -> None:
    jobs = [Program("jupyter", "gcp", "x" * 3_000_000), Program("jupyter", "aws")]  # too long for execve
    seen = Seen()
    first, second = run(jobs, at_once=2, follower=seen)
    assert (first.outcome, first.error) == (Outcome.FAILED, "could not start the bake: Argument list too long")
    assert (second.outcome, {one.job for one in seen.ended}) == (Outcome.SUCCEEDED, set(jobs))


def test_ctrl_c_stops_all_and_waits_until_they_have_cleaned_up(tmp_path: Path) -> None:
    jobs = [Program("jupyter", name, WAITS, str(tmp_path / name)) for name in ("a", "b", "c")]
    seen = Seen()

    def interrupt() -> None:
        while len({job for job, _ in seen.events}) < 2:  # the third waits for its turn
            seen.is_waiting.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(jobs, at_once=2, follower=seen)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
    assert [one.outcome for one in seen.ended] == [Outcome.CANCELLED] * 2


def test_without_a_terminal_each_line_names_its_bake() -> None:
    stream = io.StringIO()
    with choose(stream) as view:
        run([Program("jupyter", "gcp"), Program("/x/mine.toml", "aws", SAYS_MORE)], at_once=1, follower=view)
    assert stream.getvalue().splitlines() == [
        "jupyter on gcp: bake-1: baking",
        "jupyter on gcp: tools done in 1.5 s",
        "jupyter on gcp: baked jupyter-1.0-1 in 0 s",
        "mine on aws: failed in 0 s: step 'tools' failed",
        "    | its log",
        "  next: See the log. Bake again.",
    ]
