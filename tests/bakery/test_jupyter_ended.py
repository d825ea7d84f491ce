"""What a machine reports when Jupyter has failed: the script that systemd runs then, and what the reverse proxy returns."""

import subprocess
from pathlib import Path

import pytest

from tests.bash_guest import Guest, new_guest
from tests.machine_code import TEMPLATES, facts_told, tell_facts

LAST = "ModuleNotFoundError: No module named 'mine'"


@pytest.fixture
def machine(tmp_path: Path) -> Guest:
    guest = new_guest(tmp_path)
    guest.write("bin/journalctl", f'#!/bin/sh\n[ "$1" = --sync ] || echo "{LAST}"\n')
    (guest.root / "bin/journalctl").chmod(0o755)
    guest.write("run/jupyter/x", "")
    tell_facts(guest)
    return guest


def ended(machine: Guest, result: str) -> str:
    """Run the script as systemd does; return what it writes on the console."""
    text = (TEMPLATES / "machine/jupyter-ended.sh.j2").read_text()
    return machine.run_text(f"export SERVICE_RESULT={result} EXIT_STATUS=1 INVOCATION_ID=abc\n{text}")


def test_a_failure_is_on_the_console_and_for_the_page(machine: Guest) -> None:
    console = ended(machine, "exit-code")
    assert LAST in console
    assert LAST in machine.read("run/jupyter/failure")
    assert "exit-code, status 1" in machine.read("run/jupyter/failure")
    assert (machine.root / "run/jupyter/failure").stat().st_mode & 0o777 == 0o644
    assert facts_told(console) == {}


def test_the_second_failure_in_a_row_ends_the_wait_for_jupyter(machine: Guest) -> None:
    ended(machine, "exit-code")
    assert facts_told(ended(machine, "oom-kill")) == {"notebook": "failed"}
    (machine.root / "run/jupyter/failures").unlink()  # as jupyter.py does when it serves
    assert facts_told(ended(machine, "exit-code")) == {}


def test_an_end_that_was_asked_for_is_no_failure(machine: Guest) -> None:
    assert ended(machine, "success") == ""
    assert not (machine.root / "run/jupyter/failure").exists()


@pytest.mark.parametrize("name", ["jupyter-ended.sh.j2", "variables.sh.j2", "session.sh.j2", "login-environment.sh.j2"])
def test_scripts_of_the_machine_are_clean(name: str) -> None:
    text = (TEMPLATES / "machine" / name).read_text()
    command = ["shellcheck", "--shell=bash", "--severity=style", "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.stdout == ""
