"""`launch --git`: which repositories are cloned, with which keys, and what happens if that fails."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import clouds
from clouds.errors import UsageError
from launcher.access import clone as module
from launcher.access.clone import Repository, read_url
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.launcher.access.test_copy import SSH
from tests.ssh_agent import ssh_agent

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHcPRm0OgAPXrhuHWLprZvTCMmoJ3CqNDWGWnMCOxvr5"
GIT_SERVER = """#!/bin/sh
# The ssh of the machine's git: the server is a folder here. It notes its options, and whether it may use an agent.
case "$*" in *git-upload-pack*)
    echo "${SSH_AUTH_SOCK:-no agent} $*" >"$0.git"
    for command; do :; done
    cd "${0%/bin/ssh}" && exec sh -c "$command" ;;
esac
echo "$*" >>"$0.calls"
case " $* " in *" -A "*) ;; *) unset SSH_AUTH_SOCK ;; esac
"""


@pytest.fixture
def machine(fake: FakeCloud, jupyter: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let machines have the home `machine`, for whose git https://git.example.org is the folder of the test; return that home."""
    for name in ("bin", "machine"):
        (tmp_path / name).mkdir()
    (tmp_path / "bin/ssh").write_text(GIT_SERVER + SSH)
    (tmp_path / "bin/ssh").chmod(0o755)
    (tmp_path / "machine/.gitconfig").write_text(f'[url "file://{tmp_path}/"]\ninsteadOf = https://git.example.org/\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("GIT_CONFIG_GLOBAL", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    git("init", "-q", tmp_path / "source")
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    git("-C", tmp_path / "source", *author, "commit", "-q", "--allow-empty", "-m", "one")
    git("clone", "-q", "--bare", tmp_path / "source", tmp_path / "repo.git")
    return tmp_path / "machine"


@pytest.fixture
def agent(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run an SSH agent with a key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True, timeout=60)
    with ssh_agent(tmp_path / "agent", tmp_path / "key", monkeypatch):
        yield


def git(*words: str | Path) -> None:
    """Run git."""
    subprocess.run(["git", *words], check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("url", "folder", "server"),
    [
        ("https://git.example.org/team/Repo.git", "Repo", ""),
        ("https://git.example.org:8443/repo/", "repo", ""),
        ("ssh://git@git.example.org/team/repo.git", "repo", "git.example.org"),
        ("ssh://Git.example.org:2222/repo", "repo", "[git.example.org]:2222"),
        ("ssh://git@[2001:db8::1]:22/repo", "repo", "2001:db8::1"),
        ("https://git.example.org/%40team/repo", "repo", ""),
        ("git@git.example.org:repo.git", "repo", "git.example.org"),
        ("git@git.example.org:/srv/my.repo", "my.repo", "git.example.org"),
    ],
)
def test_forms_of_a_url(url: str, folder: str, server: str) -> None:
    assert read_url(url) == Repository(url, folder, server)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "repo",
        "secret",
        "/srv/repo.git",
        "file:///secret",
        "http://git.example.org/secret",
        "ext::secret",
        "--upload-pack=secret",
        "-oProxyCommand=secret@x:y",
        "ssh://-oProxyCommand=secret/x",
        "git@-secret:x",
        "https://git.example.org/",
        "https://git.example.org/.git",
        "https://git.example.org/x/..",
        "https://git.example.org/a b",
        "https://git.example.org/x?token=secret",
        "https://user:secret@git.example.org/repo.git",
        "https://user:secret/1@git.example.org/repo.git",
        "https://user:123/secret#1@git.example.org/repo.git",
        "https://user:123/secret?1@git.example.org/repo.git",
        "https://user:123456/secret@git.example.org/repo.git",
        "https://user:secret 1@git.example.org/repo.git",
        "HTTPS://user:secret@git.example.org/repo.git",
        "HTTPS://user:123/secret@git.example.org/repo.git",
    ],
)
def test_other_urls_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"^--git: ") as raised:
        read_url(url)
    assert raised.value.next_step
    assert "secret" not in raised.value.message + raised.value.next_step


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@git.example.org/repo.git",
        "https://secret@git.example.org/repo.git",
        "https://user:secret#1@git.example.org/repo.git",
        "https://user:secret?1@git.example.org/repo.git",
        "https://user:secret\\1@git.example.org/repo.git",
        "https://user:secret%401@git.example.org/repo.git",
        "https://user:secret@1@git.example.org/repo.git",
        "https://user:secret-\u00e9@git.example.org/repo.git",
        "https://me@example.org:secret@git.example.org/repo.git",
        "https://user:123/secret@git.example.org/repo.git",
        "https://user:123/secret/1@git.example.org/repo.git",
        "https://user:123/secret%401@git.example.org/repo.git",
        "https://user:123/secret\\1@git.example.org/repo.git",
        "https://user:123/@git.example.org/secret",
        "https://user/secret@git.example.org/repo.git",
        "ssh://git:secret@git.example.org/repo.git",
        "ssh://git:123/secret@git.example.org/repo.git",
        "ssh://me@example.org:123/secret@git.example.org/repo.git",
        "me@example.org:secret@git.example.org/repo.git",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match=r"^--git: the URL contains a user name or password") as raised:
        read_url(url)
    assert "secret" not in raised.value.message + raised.value.next_step


def test_url_with_a_password_is_refused_before_anything_starts(fake: FakeCloud, machine: Path) -> None:
    code, stdout, stderr = run("launch", name="one", git="https://user:secret@git.example.org/repo.git")
    assert (code, stdout, list(fake.world.machines)) == (2, "", [])
    assert re.match(r"error: --git: the URL contains a user name or password, which would stay in the machine\nnext: .+\n$", stderr)
    assert "secret" not in stderr


@pytest.mark.usefixtures("agent")
def test_repository_is_cloned_over_https_without_the_agent(machine: Path, tmp_path: Path) -> None:
    code, stdout, stderr = run("launch", name="one", git="https://git.example.org/repo.git", json=True)
    assert (code, stderr.splitlines()[-2:]) == (
        0,
        [
            "cloning https://git.example.org/repo.git into ~/repo of one",
            "https://git.example.org/repo.git is cloned into ~/repo of one",
        ],
    )
    assert json.loads(stdout)["name"] == "one"
    git("-C", machine / "repo", "log", "-1")
    assert not (machine / ".ssh").exists()
    assert " -A " not in (tmp_path / "bin/ssh.calls").read_text()


@pytest.mark.usefixtures("agent")
def test_ssh_url_uses_the_agent_and_the_host_keys_of_this_computer(machine: Path, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"other.example.org {HOST_KEY}\ngit.example.org,192.0.2.1 {HOST_KEY}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", tmp_path / ".ssh/known_hosts"], capture_output=True, check=True, timeout=60)
    code, _, stderr = run("launch", name="one", git="git@git.example.org:repo.git")
    assert (code, stderr) == (0, stderr)
    git("-C", machine / "repo", "log", "-1")
    assert len((machine / ".ssh/known_hosts").read_text().splitlines()) == 1
    assert (machine / ".ssh/known_hosts").stat().st_mode & 0o777 == 0o600
    find: list[str | Path] = ["ssh-keygen", "-F", "git.example.org", "-f", machine / ".ssh/known_hosts"]
    assert HOST_KEY in subprocess.run(find, capture_output=True, text=True, check=True, timeout=60).stdout
    used = (tmp_path / "bin/ssh.git").read_text()
    assert used.startswith(f"{tmp_path / 'agent'} ")
    assert "-o StrictHostKeyChecking=yes" in used


@pytest.mark.usefixtures("agent")
def test_unknown_git_server_is_refused_before_anything_starts(fake: FakeCloud, machine: Path) -> None:
    code, _, stderr = run("launch", name="one", git="git@git.example.org:repo.git")
    assert (code, list(fake.world.machines)) == (2, [])
    assert "error: --git: the host key of git.example.org is not in your known_hosts\n" in stderr


def test_ssh_url_without_an_agent_is_refused_before_anything_starts(fake: FakeCloud, machine: Path) -> None:
    code, _, stderr = run("launch", name="one", git="git@git.example.org:repo.git")
    assert (code, list(fake.world.machines)) == (2, [])
    assert "error: --git: no SSH agent with a key" in stderr


def test_agent_that_never_responds_is_refused_before_anything_starts(
    fake: FakeCloud, machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOCAL_S", 0.3)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent"))
        silent.listen()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "silent"))
        code, _, stderr = run("launch", name="one", git="git@git.example.org:repo.git")
    assert (code, list(fake.world.machines)) == (2, [])
    assert "error: --git: the SSH agent did not respond within 0.3 s" in stderr


@pytest.mark.usefixtures("agent")
def test_agent_without_a_key_is_refused_before_anything_starts(fake: FakeCloud, machine: Path) -> None:
    subprocess.run(["ssh-add", "-q", "-D"], check=True, capture_output=True, timeout=60)
    code, _, stderr = run("launch", name="one", git="git@git.example.org:repo.git")
    assert (code, list(fake.world.machines)) == (2, [])
    assert "error: --git: no SSH agent with a key: The agent has no identities" in stderr


def test_existing_folder_is_not_changed_and_the_machine_stays(fake: FakeCloud, machine: Path) -> None:
    (machine / "repo").mkdir()
    code, stdout, stderr = run("launch", name="one", git="https://git.example.org/repo.git")
    assert (code, list(fake.world.machines), list((machine / "repo").iterdir())) == (1, ["one"], [])
    assert "password" in stdout
    assert stderr.endswith(
        "error: machine 'one' is running, but https://git.example.org/repo.git was not cloned: ~/repo exists, and was not changed\n"
        "next: Fix the cause, and repeat it: ./inv ssh one -- git clone https://git.example.org/repo.git\n"
    )


@pytest.mark.usefixtures("agent")
def test_failed_clone_over_ssh_is_repeated_with_the_agent(fake: FakeCloud, machine: Path, tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"git.example.org {HOST_KEY}\n")
    code, stdout, _ = run("launch", name="one", git="git@git.example.org:absent", json=True)
    assert (code, list(fake.world.machines)) == (1, ["one"])
    launched, failed = (json.loads(line) for line in stdout.splitlines())
    assert launched["password"]
    assert "'absent' does not appear to be a git repository" in failed["error"]
    again = failed["next"].partition("repeat it: ")[2]
    (tmp_path / "absent").symlink_to("repo.git")
    subprocess.run(again, shell=True, check=True, capture_output=True, timeout=60)
    git("-C", machine / "absent", "log", "-1")


def test_machine_stays_when_its_clone_is_interrupted(fake: FakeCloud, machine: Path, tmp_path: Path) -> None:
    (tmp_path / "bin/ssh").write_text("#!/bin/bash\nkill -INT $PPID\nexec sleep 60\n")
    code, stdout, stderr = run("launch", name="one", git="https://git.example.org/repo.git")
    assert (code, list(fake.world.machines)) == (130, ["one"])
    assert "password" in stdout
    assert stderr.endswith("cloning https://git.example.org/repo.git into ~/repo of one\nerror: interrupted (SIGINT)\n")


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize("cause", ["git is not installed", "~/repo exists"])
def test_clone_that_did_not_begin_is_repeated_with_the_host_key(machine: Path, tmp_path: Path, cause: str) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/known_hosts").write_text(f"git.example.org {HOST_KEY}\n")
    ssh = tmp_path / "bin/ssh"
    good = ssh.read_text()
    if cause == "~/repo exists":
        (machine / "repo").mkdir()
    else:
        (tmp_path / "without").mkdir()
        for program in ("sh", "cat", "mkdir"):
            (tmp_path / "without" / program).symlink_to(f"/bin/{program}")
        ssh.write_text(good.replace("\nexec ", f"\nPATH={tmp_path / 'without'}\nexec "))
    _, stdout, _ = run("launch", name="one", git="git@git.example.org:repo.git", json=True)
    failed = json.loads(stdout.splitlines()[-1])
    assert cause in failed["error"]
    assert (machine / ".ssh/known_hosts").read_text() == f"git.example.org {HOST_KEY}\n"
    ssh.write_text(good)
    if cause == "~/repo exists":
        (machine / "repo").rmdir()
    subprocess.run(failed["next"].partition("repeat it: ")[2], shell=True, check=True, capture_output=True, timeout=60)
    git("-C", machine / "repo", "log", "-1")


def test_image_without_git_is_named_with_the_line_to_add(machine: Path, tmp_path: Path) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without/sh").symlink_to("/bin/sh")
    (tmp_path / "bin/ssh").write_text(SSH.replace("exec ", f"PATH={tmp_path / 'without'}\nexec "))
    code, _, stderr = run("launch", name="one", git="https://git.example.org/repo.git")
    assert code == 1
    assert "git is not installed (there: sudo apt-get update && sudo apt-get install git; in a step of the recipe: apt" in stderr


@pytest.mark.program
def test_clone_has_a_deadline(machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = '[url "ext::sh -c sleep% 60 "]\ninsteadOf = https://\n[protocol]\nallow = always\n'
    (tmp_path / "machine/.gitconfig").write_text(waits)
    monkeypatch.setattr(module, "CLONE_S", 0.6)
    code, _, stderr = run("launch", name="one", git="https://git.example.org/repo.git")
    assert code == 1
    assert "was not cloned: it did not finish within 1 s" in stderr
    assert not (machine / "repo").exists()


def test_read_url_says_what_to_write() -> None:
    with pytest.raises(UsageError) as raised:
        read_url("repo")
    assert raised.value.next_step == "Write https://HOST/PATH, ssh://USER@HOST/PATH or USER@HOST:PATH."
