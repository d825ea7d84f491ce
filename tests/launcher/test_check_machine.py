"""Run the tests of an image on a machine: what runs there runs here, in a folder that stands for the machine's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import clouds
from launcher import check_machine
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.launcher.given import launch_one

SSH = f"""#!/bin/sh
while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
shift
exec sh -c "$(printf %s "$*" | sed "s|{check_machine.FOLDER}|${{0%/*}}/tests|g")"
"""


@pytest.fixture
def tests(tmp_path: Path, fake: FakeCloud, jupyter: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Launch a machine `one`; return the folder of its tests."""
    assert jupyter
    (tmp_path / "bin/tests").mkdir(parents=True)
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    launch_one(fake, "one")
    return tmp_path / "bin/tests"


def put(tests: Path, **texts: str) -> None:
    """Put tests into a machine, in this order."""
    for name, text in texts.items():
        (tests / name).write_text(f"#!/bin/sh\n{text}\n")
        (tests / name).chmod(0o755)
    (tests / ".order").write_text(" ".join(texts) + "\n")


def check() -> tuple[int, list[str], str]:
    """Check the machine; return the exit status, the first words of each line, and what else is said."""
    code, stdout, stderr = run("check-machine", name="one")
    return code, [" ".join(line.split()[:2]) for line in stdout.splitlines()], stderr


def test_one_line_per_test_in_the_order_of_the_recipe(tests: Path) -> None:
    put(tests, numpy="true", apple="true")
    assert check() == (0, ["passed numpy", "passed apple"], "")


def test_a_failure_shows_its_output_and_the_others_run(tests: Path) -> None:
    put(tests, numpy="echo out; echo AssertionError >&2; exit 3", apple="true")
    code, lines, stderr = check()
    assert (code, lines) == (1, ["failed numpy", "passed apple"])
    assert stderr == "  | out\n  | AssertionError\n"


def test_a_test_that_cannot_run_here_is_skipped_and_never_passed(tests: Path) -> None:
    put(tests, gpu="echo no GPU here; exit 77")
    code, stdout, _ = run("check-machine", name="one")
    assert (code, stdout.split("(")[0], stdout.split(": ")[1]) == (0, "skipped gpu ", "no GPU here\n")


def test_a_test_that_does_not_end_has_failed(tests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_machine, "TEST_S", 0.1)
    put(tests, slow="sleep 60")
    code, stdout, _ = run("check-machine", name="one")
    assert code == 1
    assert stdout.startswith("failed  slow (")
    assert "did not finish" in stdout


def test_an_image_without_tests_is_an_error_with_a_next_step(tests: Path) -> None:
    code, _, stderr = run("check-machine", name="one")
    assert (code, tests.exists()) == (1, True)
    assert "error: machine 'one': its image contains no tests" in stderr
    assert "next: Add [[tests]] to the recipe" in stderr
