"""The checks of `./inv check`: a slow one runs beside the others, and each counts."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path

import psutil
import pytest

import tasks
from launcher.command.terminal import Terminal

OK, FAILS = ("true",), ("false",)


@pytest.fixture
def terminal() -> Terminal:
    return Terminal(io.StringIO(), io.StringIO(), io.StringIO())


def test_slow_check_runs_beside_the_others_and_its_output_follows(terminal: Terminal, tmp_path: Path) -> None:
    found = tmp_path / "found"
    slow = ("sh", "-c", f"until [ -e {found} ]; do sleep 0.01; done; echo slow; echo too >&2")  # waits for one of the others
    assert tasks._run_beside(terminal, slow, [OK, ("touch", str(found))]) == 0
    assert terminal.stdout.getvalue() == "slow\ntoo\n"  # type: ignore[attr-defined]
    assert [line.split()[1] for line in terminal.stderr.getvalue().splitlines()] == ["true", "touch", "sh"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("slow", "others"), [(FAILS, [OK]), (OK, [FAILS, OK]), (OK, [OK, FAILS])], ids=["slow one", "first one", "last one"]
)
def test_one_check_that_fails_is_a_failure(terminal: Terminal, slow: tuple[str, ...], others: list[tuple[str, ...]]) -> None:
    assert tasks._run_beside(terminal, slow, others) == 1
    assert len(terminal.stderr.getvalue().splitlines()) == 1 + len(others)  # type: ignore[attr-defined]


def test_checks_may_keep_bytecode(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert tasks._run(terminal, (sys.executable, "-c", "import sys; sys.exit(sys.dont_write_bytecode)")) == 0


def test_slow_check_ends_when_the_others_are_interrupted(terminal: Terminal, tmp_path: Path) -> None:
    slow = ("sh", "-c", f"echo $$ >{tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; exec sleep 60")

    class Interrupts(io.StringIO):
        def write(self, _text: str) -> int:
            while not (tmp_path / "pid").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tasks._run_beside(Terminal(io.StringIO(), io.StringIO(), Interrupts()), slow, [OK])
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
