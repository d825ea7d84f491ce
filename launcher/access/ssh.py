"""SSH into a machine: a shell or a command for a person, a bounded call for a program."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import OpensShell
from clouds.driver import Cloud
from clouds.errors import CloudError, TimedOutError
from clouds.home import home
from launcher.access import identity
from launcher.access.ssh_errors import explain
from launcher.boot import ssh_answers
from launcher.clean import clean
from launcher.machines import running_machine

FAILED = 255
"""How ssh(1) ends when it is ssh that failed; a remote command may end so too."""
_FAREWELL = re.compile(r"(Shared c|C)onnection to \S+ closed\.")
"""What ssh(1) says at the end of a session that had a terminal."""


def ssh(cloud: Cloud, name: str, command: Sequence[str] = ()) -> int:
    """Run a command on a machine, or a shell, on this terminal; return the exit status.

    One argument is a line for the remote shell, as ssh(1) has it; of several each arrives as it is, spaces and all.
    A builder that was kept (`bake-...`) lets its owner in as root.
    """
    if names.is_bake_id(name):
        with identity.openssh():
            return subprocess.run([*_builder(cloud, name), *remote_words(command)], check=False).returncode
    with _own_words() as said, identity.openssh():
        status = subprocess.run([*_machine(cloud, name, said), *remote_words(command)], check=False).returncode
        if status == FAILED:
            check_reachable(cloud, name, _read(said))
    return status


def run(
    cloud: Cloud, name: str, argv: Sequence[str], *, stdin: str = "", timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a program on a machine and return its status and output; `timeout_s` is multiplied by the cloud's slowness.

    Raises CloudError when the machine cannot be reached, TimedOutError when the program has not ended in time.
    """
    timeout_s *= cloud.slowness
    with _own_words() as said, identity.openssh():
        command = [*_machine(cloud, name, said), shlex.join(argv)]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise TimedOutError(
                f"machine {name}: {argv[0]} has not ended within {timeout_s:.0f} s",
                next_step=f"Look at its console: ./inv log {name}",
            ) from None
        if done.returncode == FAILED:
            check_reachable(cloud, name, _read(said))
    return done


def remote_words(command: Sequence[str]) -> list[str]:
    """Return a command as the one argument that ssh(1) hands to the remote shell; none for a shell."""
    if not command:
        return []
    return [command[0] if len(command) == 1 else shlex.join(command)]


def config_of(cloud: Cloud, name: str) -> str:
    """Return the path of an ssh config that knows a machine that is on. CloudError: it is not, or its host key is unknown."""
    running_machine(cloud, name)
    identity.check_known(home(), account_key(cloud), name)
    return str(identity.sync(home(), cloud))


def check_reachable(cloud: Cloud, name: str, said: str) -> None:
    """Raise CloudError, which says why, when it was ssh(1) that has failed: by what it said, or because nobody answers."""
    endpoint = cloud.address(name, identity.SSH_PORT)
    if explained := explain(said, machine=name, endpoint=endpoint, is_remote=cloud.is_remote):
        raise explained
    if not ssh_answers(endpoint, timeout_s=5 * cloud.slowness):
        raise CloudError(
            f"machine {name}: no SSH server answers at {endpoint.host}:{endpoint.port}",
            next_step=f"It may still be starting: look at its console with ./inv log {name}",
        )
    if unknown := [line for line in said.splitlines() if line.strip() and not _FAREWELL.fullmatch(line.strip())]:
        raise CloudError(f"machine {name}: ssh has failed\n" + "\n".join(unknown), next_step="Try again.")


@contextmanager
def _own_words() -> Iterator[Path]:
    """Give a file for what ssh(1) itself has to say, apart from what is said on the machine."""
    with tempfile.TemporaryDirectory(prefix="bakehouse-ssh-") as folder:
        yield Path(folder) / "said"


def _read(said: Path) -> str:
    return clean(said.read_text(encoding="utf-8", errors="replace")) if said.exists() else ""


def _machine(cloud: Cloud, name: str, said: Path) -> list[str]:
    return ["ssh", "-F", config_of(cloud, name), "-E", str(said), name, "--"]


def _builder(cloud: Cloud, name: str) -> list[str]:
    """Let us into a builder. It has told no host key, but is reached through a port that only its own cloud driver opens."""
    running_machine(cloud, name)
    if not isinstance(cloud, OpensShell):
        raise CloudError(f"builder {name}: {cloud.name} lets nobody into a builder", next_step=f"See its log: ./inv log {name}")
    endpoint = cloud.open_shell(name, identity.user_key(home()))
    options = (
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        "IdentitiesOnly=yes",
        "ConnectTimeout=60",
    )
    words = [word for option in options for word in ("-o", option)]
    return [
        "ssh",
        "-F",
        "none",
        *words,
        "-i",
        str(identity.key_file(home())),
        "-p",
        str(endpoint.port),
        f"root@{endpoint.host}",
        "--",
    ]
