"""`launch --git-config`: which settings of this computer's git reach the machine."""

import os
import subprocess
from pathlib import Path

import pytest

import clouds
from clouds.home import home
from clouds.ledger import Ledger
from launcher.access.identity import known_hosts
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.launcher.access.test_copy import SSH


@pytest.fixture
def machine(fake: FakeCloud, jupyter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let machines have the home `machine`, and this computer the git configuration `gitconfig`; return the former."""
    for name in ("bin", "machine"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/ssh").write_text(SSH.replace("export HOME", "unset GIT_CONFIG_GLOBAL\nexport HOME"))
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    return tmp_path / "machine"


def test_name_and_address_are_taken_over_and_nothing_else(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text(
        '[user]\nname = "O\'Neil $HOME"\nemail = a@example.org\nsigningkey = K\n[credential]\nhelper = store\n'
    )
    code, _, stderr = run("launch", name="one", git_config=True)
    assert (code, stderr) == (0, stderr)
    listed = subprocess.run(
        ["git", "config", "--file", machine / ".gitconfig", "--list"], capture_output=True, text=True, check=True, timeout=60
    )
    assert listed.stdout == "user.name=O'Neil $HOME\nuser.email=a@example.org\n"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[user]\nname = A\n", ("user.email", "it: git config --global user.email 'VALUE'")),
        (
            "",
            (
                "user.name and user.email",
                "them: git config --global user.name 'VALUE'; git config --global user.email 'VALUE'",
            ),
        ),
    ],
    ids=["one", "both"],
)
def test_missing_values_are_an_error_before_anything_starts(
    fake: FakeCloud, machine: Path, tmp_path: Path, config: str, told: tuple[str, str]
) -> None:
    (tmp_path / "gitconfig").write_text(config)
    code, _, stderr = run("launch", name="one", git_config=True)
    assert (code, list(fake.world.machines)) == (2, [])
    assert stderr == f"error: --git-config: {told[0]} not set on this computer\nnext: Set {told[1]}\n"


def test_machine_that_cannot_store_them_is_removed(fake: FakeCloud, machine: Path, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\nname = A\nemail = a@example.org\n")
    (machine / ".gitconfig").mkdir()
    code, _, stderr = run("launch", name="one", git_config=True)
    assert (code, list(fake.world.machines)) == (1, [])
    assert "could not store the settings of --git-config" in stderr


def test_interrupt_while_they_are_stored_leaves_nothing(fake: FakeCloud, machine: Path, tmp_path: Path) -> None:
    (tmp_path / "gitconfig").write_text("[user]\nname = A\nemail = a@example.org\n")
    (tmp_path / "bin/ssh").write_text("#!/bin/bash\nkill -INT $PPID\nexec sleep 60\n")
    code, _, stderr = run("launch", name="one", git_config=True)
    assert code == 130
    assert stderr.startswith("interrupted; cleaning up: machine 'one', ssh settings of one")
    assert stderr.endswith("error: interrupted (SIGINT)\n")
    assert (fake.world.machines, Ledger(home() / "ledger.sqlite3").entries("fake")) == ({}, [])
    assert not known_hosts(home(), "fake", "one").exists()
