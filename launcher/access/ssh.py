"""SSH to a machine: a shell or a command for users, and a call with a time limit for programs."""

from __future__ import annotations

import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import OpensShell
from clouds.driver import Cloud
from clouds.errors import CloudError, TimedOutError
from clouds.home import home
from clouds.waiter import until
from launcher.access import identity, rsub
from launcher.access.ssh_errors import explain
from launcher.boot import ANSWER_S, POLL_S, ssh_answers
from launcher.clean import clean
from launcher.machines import running_machine

FAILED = 255
"""The exit status of ssh(1) when ssh itself failed; a remote command may also exit with it."""
_END_S = 10
"""How long ssh(1) may take to end after its pipes were closed, in seconds."""
_FAREWELL = re.compile(r"(Shared c|C)onnection to \S+ closed\.")
"""What ssh(1) prints at the end of a session with a terminal."""


def ssh(cloud: Cloud, name: str, command: Sequence[str] = ()) -> int:
    """Run a command or a shell on a machine, connected to this terminal; return the exit status.

    A single argument is a line for the remote shell, as with ssh(1); several are passed as they are, spaces included.
    A builder that was kept (`bake-...`) is entered as root.
    """
    if names.is_bake_id(name):
        with identity.openssh():
            return subprocess.run([*_builder(cloud, name), *remote_words(command)], check=False).returncode
    with _own_words() as said, identity.openssh():
        config = Path(config_of(cloud, name))
        is_forwarded = not command and rsub.FOR_COMMANDS in identity.read_blocks(config).get(name, "")
        options = ["-o", rsub.FORWARD] if is_forwarded else []
        status = subprocess.run([*_machine(cloud, name, said, config, *options), *remote_words(command)], check=False).returncode
        if status == FAILED:
            check_reachable(cloud, name, _read(said))
    return status


def run(
    cloud: Cloud,
    name: str,
    argv: Sequence[str],
    *,
    stdin: str = "",
    timeout_s: float = 60.0,
    config: Path | None = None,
    forwards_agent: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run a program on a machine and return its status and output; `timeout_s` is multiplied by the cloud's slowness.

    `config` is an ssh config that has the machine already, such as that of its launch: then the cloud is not asked.
    With `forwards_agent`, the program may use this computer's SSH agent.
    CloudError: the machine cannot be reached. TimedOutError: the program did not finish in time.
    """
    timeout_s *= cloud.slowness
    with _own_words() as said, identity.openssh():
        command = [*_machine(cloud, name, said, config, *(["-A"] if forwards_agent else [])), shlex.join(argv)]
        try:
            done = subprocess.run(
                command, input=stdin, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise TimedOutError(
                f"machine {name!r}: {argv[0]} did not finish within {timeout_s:.0f} s",
                next_step=f"Look at its console: ./inv log {name}",
            ) from None
        if done.returncode == FAILED:
            check_reachable(cloud, name, _read(said))
    return done


@dataclass(frozen=True, slots=True)
class Piped:
    """A program on a machine: its input and output, and what it or ssh(1) has written to its error output."""

    stdin: BinaryIO
    stdout: BinaryIO
    said: Callable[[], str]


@contextmanager
def piped(cloud: Cloud, name: str, argv: Sequence[str]) -> Iterator[Piped]:
    """Run a program on a machine with pipes for its input and output; it is ended if the caller fails.

    CloudError: the machine cannot be reached, which then replaces the caller's own error.
    """
    with _own_words() as said, identity.openssh():
        command, errors = [*_machine(cloud, name, said), shlex.join(argv)], said.with_name("errors")
        with (
            errors.open("wb") as sink,
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=sink) as process,
        ):
            try:
                yield Piped(_given(process.stdin), _given(process.stdout), lambda: _read(errors).strip())
            except BaseException as error:
                _end(process, at_once=not isinstance(error, Exception))
                if isinstance(error, Exception) and process.returncode == FAILED:
                    check_reachable(cloud, name, _read(said))
                raise
            _end(process, at_once=False)


def _given(stream: IO[bytes] | None) -> BinaryIO:
    assert stream is not None
    return cast(BinaryIO, stream)


def _end(process: subprocess.Popen[bytes], *, at_once: bool) -> None:
    """Close the pipes and wait for the program; kill it at once, or if it does not end on its own in a few seconds."""
    if at_once:
        process.kill()
    for stream in (process.stdin, process.stdout):
        with suppress(BrokenPipeError):
            _given(stream).close()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()


def remote_words(command: Sequence[str]) -> list[str]:
    """Return a command as the one argument that ssh(1) passes to the remote shell; none for an interactive shell."""
    if not command:
        return []
    return [command[0] if len(command) == 1 else shlex.join(command)]


def config_of(cloud: Cloud, name: str) -> str:
    """Return the path of the ssh config for a running machine. CloudError: it is not running, or its host key is not pinned."""
    running_machine(cloud, name)
    identity.check_known(home(), account_key(cloud), name)
    return str(identity.sync(home(), cloud))


def await_server(cloud: Cloud, name: str) -> None:
    """Wait until the SSH server of a machine responds. TimedOutError: it does not."""
    until(
        lambda: ssh_answers(cloud.address(name, identity.SSH_PORT)),
        what=f"response of the SSH server of {name}",
        timeout_s=ANSWER_S * cloud.slowness,
        poll_s=POLL_S,
    )


def check_reachable(cloud: Cloud, name: str, said: str) -> None:
    """Raise CloudError with the cause if ssh(1) itself failed: according to its messages, or because no SSH server responds."""
    endpoint = cloud.address(name, identity.SSH_PORT)
    if explained := explain(said, machine=name, endpoint=endpoint, is_remote=cloud.is_remote):
        raise explained
    if not ssh_answers(endpoint, timeout_s=5 * cloud.slowness):
        raise CloudError(
            f"machine {name!r}: no SSH server responds at {endpoint.host}:{endpoint.port}",
            next_step=f"It may still be starting; look at its console: ./inv log {name}",
        )
    if unknown := [line for line in said.splitlines() if line.strip() and not _FAREWELL.fullmatch(line.strip())]:
        raise CloudError(f"machine {name!r}: ssh failed\n" + "\n".join(unknown), next_step="Try again.")


@contextmanager
def _own_words() -> Iterator[Path]:
    """Give a file for ssh(1)'s own messages, which keeps them apart from output on the machine."""
    with tempfile.TemporaryDirectory(prefix="bakehouse-ssh-") as folder:
        yield Path(folder) / "said"


def _read(said: Path) -> str:
    return clean(said.read_text(encoding="utf-8", errors="replace")) if said.exists() else ""


def _machine(cloud: Cloud, name: str, said: Path, config: Path | None = None, *options: str) -> list[str]:
    return ["ssh", "-F", str(config or config_of(cloud, name)), "-E", str(said), *options, name, "--"]


def _builder(cloud: Cloud, name: str) -> list[str]:
    """Return the ssh command for a builder. It has reported no host key, but only its cloud driver opens its port."""
    running_machine(cloud, name)
    if not isinstance(cloud, OpensShell):
        raise CloudError(
            f"builder {name!r}: {cloud.name} does not support SSH to a builder", next_step=f"See its log: ./inv log {name}"
        )
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
