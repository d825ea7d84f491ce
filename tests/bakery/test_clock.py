"""The program of the base that sets a guest's clock after the host has slept, run for real; stand-ins play `date` and `sleep`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

CLOCK = Path(__file__).parents[2] / "templates/base/root/usr/lib/bakehouse/clock"
# So many times `sleep` returns at once, then it ends the program; before the second time $AFTER is run.
SLEEP = """#!/bin/sh
echo "$1" >>"$0.calls"
[ "$(wc --lines <"$0.calls")" -le "$LOOKS" ] || exit 1
[ "$(wc --lines <"$0.calls")" != 2 ] || eval "$AFTER"
"""
DATE = '#!/bin/sh\necho "$*" >>"$0.calls"\n'


def run(
    folder: Path, *, differs_s: int = 3600, daemon: str = "", has_rtc: bool = True, looks: int = 2, after: str = ""
) -> tuple[str, str]:
    """Let the program look twice at a hardware clock that differs from this computer's; return what it set, and what it printed."""
    for name, text in {"sleep": SLEEP, "date": DATE}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    hardware = int(time.time()) + differs_s
    if has_rtc:
        (folder / "since_epoch").write_text(f"{hardware}\n")
    environ = {
        "PATH": f"{folder}:/usr/bin:/bin",
        "BAKEHOUSE_RTC": str(folder / "since_epoch"),
        "LOOKS": str(looks),
        "AFTER": after,
        "BAKEHOUSE_TIME_DAEMONS": f"{folder}/chronyd {folder}/timesyncd",
    }
    if daemon:
        (folder / daemon).touch()
    done = subprocess.run([CLOCK], env=environ, capture_output=True, text=True, timeout=20, check=False)
    calls = folder / "date.calls"
    return (calls.read_text().strip() if calls.exists() else ""), done.stdout


@pytest.mark.parametrize("differs_s", [3600, 60, -3600])
def test_clock_that_differs_is_set_and_the_console_says_so(tmp_path: Path, differs_s: int) -> None:
    before = int(time.time())
    given, printed = run(tmp_path, differs_s=differs_s)
    assert given.startswith("--set=@")
    assert differs_s <= int(given.removeprefix("--set=@")) - before < differs_s + 30
    assert printed.startswith("<5>")  # by journald.conf of the base, nothing less reaches the console
    assert "clock: differed from the host's by" in printed


def test_clock_that_differs_once_is_left_to_whoever_resumes_the_machine(tmp_path: Path) -> None:
    assert run(tmp_path, looks=1) == ("", "")
    assert (tmp_path / "sleep.calls").read_text().split() == ["10", "3"]


def test_clock_that_was_set_meanwhile_is_left_alone(tmp_path: Path) -> None:
    assert run(tmp_path, looks=3, after='/bin/date +%s >"$BAKEHOUSE_RTC"')[1] == ""
    assert (tmp_path / "sleep.calls").read_text().split() == ["10", "3", "10", "10"]


def test_clock_that_differs_by_a_rounding_is_left_alone(tmp_path: Path) -> None:
    assert run(tmp_path, differs_s=0) == ("", "")


@pytest.mark.parametrize("daemon", ["chronyd", "timesyncd"])
def test_clock_is_left_to_a_time_daemon(tmp_path: Path, daemon: str) -> None:
    assert run(tmp_path, daemon=daemon) == ("", "")


def test_without_a_hardware_clock_nothing_is_set(tmp_path: Path) -> None:
    assert run(tmp_path, has_rtc=False)[0] == ""
