import os
import re
from pathlib import Path

import pytest

from clouds.driver import Endpoint
from clouds.errors import CloudError, MissingToolError, NotFoundError, TimedOutError
from clouds.home import home
from launcher.access.identity import key_file, known_hosts
from launcher.access.password import set_password
from launcher.access.ssh import remote_words, run, ssh
from launcher.power import stop
from tests.fake_cloud import FakeCloud
from tests.launcher.given import launch_one

SSH = """#!/bin/sh
# What OpenSSH does with its arguments, but on this computer: `ssh -F CONFIG NAME -- COMMAND` runs COMMAND in a shell.
echo "$*" >> "$0.calls"
while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
shift
exec sh -c "$*"
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put an ssh that does not connect anywhere first on the PATH; return its folder."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def one(fake: FakeCloud, jupyter: str, programs: Path) -> FakeCloud:
    """Launch a machine `one`."""
    launch_one(fake, "one")
    return fake


class Kitchen(FakeCloud):
    """A fake cloud that supports SSH to builders."""

    def __init__(self, of: FakeCloud) -> None:
        super().__init__(of.world)
        self.admitted: list[str] = []

    def open_shell(self, machine: str, public_key: str) -> Endpoint:
        self.admitted += [machine, public_key]
        return Endpoint("127.0.0.1", 2222)


class Unreachable(FakeCloud):
    """A fake cloud whose machines never respond."""

    def address(self, machine: str, port: int) -> Endpoint:
        return Endpoint("127.0.0.1", 9)


def test_words_of_a_command_arrive_as_they_were_typed(one: FakeCloud) -> None:
    words = ["a b", "it's", "$HOME", "`id`", "", 'q"q', "*"]
    assert run(one, "one", ["printf", "%s\n", *words]).stdout.splitlines() == words


def test_one_word_is_a_line_for_the_remote_shell() -> None:
    assert remote_words(["cd /tmp && ls"]) == ["cd /tmp && ls"]
    assert remote_words(["ls", "a b"]) == ["ls 'a b'"]
    assert remote_words([]) == []


def test_exit_status_and_output_of_a_command_are_returned(one: FakeCloud) -> None:
    done = run(one, "one", ["sh", "-c", "cat; echo bad >&2; exit 7"], stdin="input")
    assert (done.returncode, done.stdout, done.stderr) == (7, "input", "bad\n")


def test_exit_status_of_a_users_command_is_returned(one: FakeCloud) -> None:
    assert ssh(one, "one", ["exit 3"]) == 3


def test_ssh_is_called_with_our_config_and_the_machines_name(one: FakeCloud, programs: Path) -> None:
    ssh(one, "one", ["true"])
    assert re.fullmatch(rf"-F {home()}/ssh/config.d/fake -E \S+/said one -- true", (programs / "ssh.calls").read_text().strip())


def test_shell_forwards_the_port_of_the_editor_where_the_machine_has_rmate(one: FakeCloud, programs: Path) -> None:
    one.world.machines["one"].labels["rsub"] = "1"
    for command in ((), ("true",)):
        ssh(one, "one", command)
    shell, command = (programs / "ssh.calls").read_text().splitlines()
    assert "-o RemoteForward 127.0.0.1:52698 127.0.0.1:52698 one --" in shell
    assert "RemoteForward" not in command


def test_program_that_does_not_end_is_ended(one: FakeCloud) -> None:
    with pytest.raises(TimedOutError, match="sleep did not finish"):
        run(one, "one", ["sleep", "60"], timeout_s=0.1)


def test_failure_of_ssh_itself_is_explained_if_no_server_responds(one: FakeCloud) -> None:
    away = Unreachable(one.world)
    with pytest.raises(CloudError, match="no SSH server responds at 127"):
        ssh(away, "one", ["exit 255"])
    with pytest.raises(CloudError, match="no SSH server responds at 127"):
        run(away, "one", ["sh", "-c", "exit 255"])


def test_status_255_of_a_remote_command_is_no_failure_of_ssh(one: FakeCloud) -> None:
    assert ssh(one, "one", ["exit 255"]) == 255


def test_machine_that_is_absent_off_or_unknown_here_is_explained(one: FakeCloud) -> None:
    with pytest.raises(NotFoundError, match="machine 'on' not found on fake"):
        ssh(one, "on")
    known_hosts(home(), "fake", "one").unlink()
    with pytest.raises(CloudError, match="its host key is not pinned on this computer"):
        ssh(one, "one")
    stop(one, "one")
    with pytest.raises(CloudError, match="stopped") as raised:
        ssh(one, "one")
    assert "./inv start one" in raised.value.next_step


def test_missing_openssh_is_reported_with_the_command_that_installs_it(one: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingToolError, match="ssh: not installed"):
        ssh(one, "one")


def test_kept_builder_lets_its_owner_in_as_root(one: FakeCloud, programs: Path) -> None:
    one.world.machines["bake-1"] = one.world.machines.pop("one")
    kitchen = Kitchen(one)
    assert ssh(kitchen, "bake-1", ["exit 4"]) == 4
    assert kitchen.admitted == ["bake-1", key_file(home()).with_suffix(".pub").read_text().strip()]
    assert "-p 2222 root@127.0.0.1 -- exit 4" in (programs / "ssh.calls").read_text()


def test_builder_of_a_cloud_that_opens_no_shell_is_explained(one: FakeCloud) -> None:
    one.world.machines["bake-1"] = one.world.machines.pop("one")
    with pytest.raises(CloudError, match="does not support SSH to a builder") as raised:
        ssh(one, "bake-1")
    assert "./inv log bake-1" in raised.value.next_step


def test_new_password_travels_as_a_hash_on_standard_input_only(one: FakeCloud, programs: Path, tmp_path: Path) -> None:
    (programs / "sudo").write_text(f"#!/bin/sh\n[ $# = 1 ] && cat > '{tmp_path}/received'\n")
    (programs / "sudo").chmod(0o755)
    set_password(one, "one", "a new one")
    assert (tmp_path / "received").read_text().startswith("argon2:$argon2id$")
    assert (programs / "ssh.calls").read_text().endswith("one -- sudo /usr/lib/bakehouse/set-password\n")


def test_password_that_the_machine_rejects_is_reported_with_the_reason(one: FakeCloud, programs: Path) -> None:
    (programs / "sudo").write_text("#!/bin/sh\necho 'not a hash' >&2; exit 1\n")
    (programs / "sudo").chmod(0o755)
    with pytest.raises(CloudError, match="could not set its password: not a hash"):
        set_password(one, "one", "a new one")


def test_machine_without_a_notebook_takes_no_password(one: FakeCloud, minimal: str) -> None:
    launch_one(one, "plain", recipe="minimal")
    with pytest.raises(CloudError, match="no notebook"):
        set_password(one, "plain", "a new one")
