"""Work that only a machine has: real git repositories in a folder that stands for its home."""

import os
import subprocess
from pathlib import Path

import pytest

import clouds
from clouds.errors import CloudError, TimedOutError
from launcher.access import unsaved as module
from launcher.access.unsaved import Unsaved, unsaved
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.launcher.access.test_copy import SSH
from tests.launcher.given import launch_one


@pytest.fixture
def machine(fake: FakeCloud, jupyter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Launch a machine `one`; return the folder that stands for its home."""
    for name in ("bin", "machine"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/ssh").write_text(SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for name, value in {"NAME": "A", "EMAIL": "a@example.org"}.items():
        monkeypatch.setenv(f"GIT_AUTHOR_{name}", value)
        monkeypatch.setenv(f"GIT_COMMITTER_{name}", value)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    launch_one(fake, "one")
    return tmp_path / "machine"


def git(*words: str | Path) -> None:
    """Run git."""
    subprocess.run(["git", *words], check=True, capture_output=True, timeout=60)


def pushed(machine: Path, path: str) -> Path:
    """Make a repository whose only commit is on a remote."""
    repository = machine / path
    git("init", "-q", "--bare", machine.parent / f"{repository.name}.git")
    git("clone", "-q", machine.parent / f"{repository.name}.git", repository)
    (repository / "file").write_text("1\n")
    git("-C", repository, "add", "file")
    git("-C", repository, "commit", "-qm", "one")
    git("-C", repository, "push", "-q", "origin", "HEAD")
    return repository


def test_each_kind_of_unsaved_work_is_listed_by_name(fake: FakeCloud, machine: Path) -> None:
    assert unsaved(fake, "one") == []
    pushed(machine, "saved")
    assert unsaved(fake, "one") == []
    work = pushed(machine, "deep/my work")
    (work / "file").write_text("2\n")
    git("-C", work, "stash", "-q")
    (work / "file").write_text("3\n")
    git("-C", work, "commit", "-qam", "two")
    (work / "file").write_text("4\n")
    (work / "a").write_text("")
    (work / "b").write_text("")
    git("init", "-q", machine / "empty")
    (machine / "damaged/.git").mkdir(parents=True)
    assert sorted(unsaved(fake, "one"), key=lambda one: one.path) == [
        Unsaved("damaged", "git cannot read it"),
        Unsaved("deep/my work", "1 changed file, 2 untracked files, 1 commit on no remote, 1 stash"),
    ]


def test_commits_on_another_branch_and_on_none_count(fake: FakeCloud, machine: Path) -> None:
    work = pushed(machine, "work")
    git("-C", work, "checkout", "-q", "--detach")
    git("-C", work, "commit", "-q", "--allow-empty", "-m", "two")
    assert unsaved(fake, "one") == [Unsaved("work", "1 commit on no remote")]
    git("-C", work, "branch", "other")
    git("-C", work, "checkout", "-q", "HEAD~")
    assert unsaved(fake, "one") == [Unsaved("work", "1 commit on no remote")]


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_unsaved_work_is_asked_about(fake: FakeCloud, machine: Path, verb: str) -> None:
    (pushed(machine, "work") / "new").write_text("")
    code, _, stderr = run(verb, name="one")
    assert (code, fake.world.machines["one"].state) == (2, "running")
    assert "stored nowhere else:\n  work: 1 untracked file\nerror: no terminal to ask on" in stderr
    assert "next: Confirm with --yes." in stderr
    code, _, stderr = run(verb, name="one", yes=True)
    assert (code, "nowhere else" in stderr) == (0, False)


def test_a_stopped_machine_is_not_looked_at(fake: FakeCloud, machine: Path) -> None:
    (pushed(machine, "work") / "new").write_text("")
    assert run("stop", name="one", yes=True)[0] == 0
    code, _, stderr = run("stop", name="one")
    assert (code, "git" in stderr) == (0, False)


def test_a_machine_that_cannot_be_checked_is_stopped_after_a_line(fake: FakeCloud, machine: Path) -> None:
    (machine.parent / "bin/ssh.refuses").touch()
    with pytest.raises(CloudError):
        unsaved(fake, "one")
    code, _, stderr = run("stop", name="one")
    assert code == 0
    assert stderr.startswith("its git repositories could not be checked for unsaved work (machine 'one': ")


def test_a_look_that_takes_too_long_is_ended(fake: FakeCloud, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.1)
    (machine / ".bashrc").write_text("exec sleep 60\n")
    with pytest.raises(TimedOutError):
        unsaved(fake, "one")
