"""Failures on purpose, each with a real machine: the message tells it apart, and nothing stays behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from clouds.waiter import until
from tests.vm.bakehouse import RECIPES, Bakehouse, Finished

pytestmark = pytest.mark.vm


@pytest.fixture(scope="module")
def failed(bakehouse: Bakehouse) -> Callable[[str], Finished]:
    """Give what bakes a recipe that is to fail, once, and returns how that ended and what was left then."""

    @cache
    def bake(recipe: str) -> Finished:
        return bakehouse.run("bake", "--recipe", str(RECIPES / f"{recipe}.toml"), "--json")

    return bake


BakeUntil = Callable[[str], subprocess.Popen[str]]
FAILURES = {
    "exits-3": ("trouble", r"step 'trouble' failed: line 3 returned exit status 3"),
    "no-such-package": ("trouble", r"step 'trouble' failed: line \d+ returned exit status 100"),
    "disk-full": ("trouble", r"the builder's disk is full"),
    "powers-off": ("trouble", r"the machine stopped unexpectedly"),
    "sleeps": ("trouble", r"no output for \d+ s"),
    "panics": ("trouble", r"kernel panicked: sysrq triggered crash"),
    "fails-its-test": ("never", r"test 'never' failed: line 2 returned exit status 1"),
    "keeps-a-secret": ("seal", r"/srv/app/server\.conf:2: private-key \(fingerprint [0-9a-f]{16}\)"),
}


@pytest.fixture
def bake_until(bakehouse: Bakehouse) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Give what begins a bake and returns it when a step has begun."""
    begun = []

    def begin(step: str) -> subprocess.Popen[str]:
        begun.append(bakehouse.start("bake", "--recipe", str(RECIPES / "sleeps.toml"), "--from", step, "--json"))
        await_event(begun[-1], "step-started", step)
        return begun[-1]

    yield begin
    for process in begun:
        process.kill()
        process.wait()


def await_event(process: subprocess.Popen[str], event: str, name: str) -> None:
    """Read the events of a bake until one has come."""
    assert process.stdout
    for line in process.stdout:
        seen: dict[str, Any] = json.loads(line)
        if (seen.get("event"), seen.get("name")) == (event, name):
            return
    raise AssertionError(f"{event} {name} never came: {process.stderr.read() if process.stderr else ''}")


@pytest.mark.parametrize(
    ("step", "signals", "status"),
    [("boot", [signal.SIGINT] * 2, 130), ("boot", [signal.SIGTERM], 143), ("trouble", [signal.SIGINT], 130)],
)
def test_an_interrupted_bake_leaves_nothing(
    bakehouse: Bakehouse, bake_until: BakeUntil, step: str, signals: list[signal.Signals], status: int
) -> None:
    """These are first: `--from boot` discards the layer from which all later bakes of this file start."""
    bake = bake_until(step)
    for number in signals:
        bake.send_signal(number)
    bake.communicate(timeout=60)
    assert bake.returncode == status
    assert bakehouse.left_overs() == []


@pytest.mark.matrix(sample=2, edges=["exits-3", "fails-its-test", "keeps-a-secret"])
@pytest.mark.parametrize("recipe", FAILURES)
def test_a_failed_bake_says_which_step_and_why_and_leaves_nothing(
    bakehouse: Bakehouse, failed: Callable[[str], Finished], recipe: str
) -> None:
    step, message = FAILURES[recipe]
    finished = failed(recipe)
    assert finished.status == 1
    assert finished.result["step"] == step
    assert re.search(message, finished.result["error"])
    assert finished.result["next"]
    assert "Traceback" not in finished.stderr
    assert bakehouse.left_overs() == []


def test_a_failed_step_shows_its_last_twenty_lines(failed: Callable[[str], Finished]) -> None:
    log = failed("exits-3").result["log"]
    assert log == [f"line {number}" for number in range(11, 31)]


def test_an_image_that_fails_its_test_stays_a_candidate_and_is_not_launched(
    bakehouse: Bakehouse, failed: Callable[[str], Finished]
) -> None:
    assert failed("fails-its-test").status == 1
    states = {image["state"] for image in bakehouse.must("images", "--recipe", "fails-its-test", "--json").result}
    assert states == {"candidate"}
    refused = bakehouse.run("launch", "--recipe", "fails-its-test")
    assert refused.status != 0
    assert "bake" in refused.stderr


def test_an_unsealed_image_stays_a_candidate_that_is_not_launched_until_its_finding_is_allowed(
    bakehouse: Bakehouse, failed: Callable[[str], Finished], tmp_path: Path
) -> None:
    finished = failed("keeps-a-secret")
    assert finished.status == 1
    [image] = bakehouse.must("images", "--recipe", "keeps-a-secret", "--json").result
    assert image["state"] == "candidate"
    refused = bakehouse.run("launch", "--recipe", "keeps-a-secret", "--version", image["version"])
    assert refused.status != 0
    assert "not sealed" in refused.stderr
    [print_of_it] = re.findall(r"fingerprint ([0-9a-f]{16})", finished.result["error"])
    recipe = tmp_path / "keeps-a-secret.toml"
    allowed = f'[[seal.allow]]\nfingerprint = "{print_of_it}"\nreason = "made for this test"\n'
    recipe.write_text(f"{(RECIPES / recipe.name).read_text()}\n{allowed}")
    assert bakehouse.must("bake", "--recipe", str(recipe), "--json").result["image"] == image["name"]  # nothing was built anew
    assert [one["state"] for one in bakehouse.must("images", "--recipe", "keeps-a-secret", "--json").result] == ["stable"]


def test_a_killed_builder_is_told_at_once(bakehouse: Bakehouse, bake_until: BakeUntil) -> None:
    bake = bake_until("trouble")
    logs = bakehouse.home.glob  # a builder that dies before it has told anything is started once more
    until(lambda: any("trouble" in log.read_text() for log in logs("local/machines/*/steps.log")), what="the step", timeout_s=120)
    for pid, command in bakehouse.processes():
        if "qemu-system" in command and "timeout" not in command.split()[0]:
            os.kill(pid, signal.SIGKILL)
    stdout, _ = bake.communicate(timeout=30)
    assert "the machine stopped unexpectedly" in json.loads(stdout.splitlines()[-1])["error"]
    assert bakehouse.left_overs() == []


def test_a_kept_builder_can_be_entered_and_removed(bakehouse: Bakehouse) -> None:
    finished = bakehouse.run("bake", "--recipe", str(RECIPES / "exits-3.toml"), "--json", "--keep")
    builder = re.findall(r"bake-\w+", finished.result["next"])[0]
    try:
        inside = bakehouse.must("ssh", builder, "--", "cat", "/run/bakehouse/bake.log")
    finally:
        bakehouse.must("delete", builder, "--yes")
    assert "the words before the end" in inside.stdout
    assert bakehouse.left_overs() == []
