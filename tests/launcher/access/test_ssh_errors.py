"""Why ssh could not connect: from messages of OpenSSH, recorded (9.2p1) or printed by the real ssh for a loopback server."""

import socket
import socketserver
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clouds.driver import Endpoint
from clouds.errors import CloudError
from launcher.access.ssh import run, ssh
from launcher.access.ssh_errors import explain
from tests.fake_remote import RemoteCloud
from tests.launcher.given import launch_one

pytestmark = pytest.mark.program

HERE = Endpoint("203.0.113.7", 22)

CHANGED = """@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!
Offending ED25519 key in /home/me/.local/share/bakehouse/ssh/known_hosts/gcp/one:1
Host key for one has changed and you have requested strict checking.
Host key verification failed.
"""
UNKNOWN = "No ED25519 host key is known for one and you have requested strict checking.\nHost key verification failed.\n"
DENIED = "notebook@203.0.113.7: Permission denied (publickey).\n"
BAD_KEY = 'Load key "/home/me/.local/share/bakehouse/ssh/id_ed25519": bad permissions\n' + DENIED
TIMED_OUT = "ssh: connect to host 203.0.113.7 port 22: Connection timed out\n"
SILENT = "Connection timed out during banner exchange\nConnection to 203.0.113.7 port 22 timed out\n"
CUT = "Timeout, server 203.0.113.7 not responding.\n"
NOT_UP = "ssh: connect to host 203.0.113.7 port 22: Connection refused\n"
NO_ROUTE = "ssh: connect to host 203.0.113.7 port 22: No route to host\n"
NO_NAME = "ssh: Could not resolve hostname one: Name or service not known\n"
CLOSED = "kex_exchange_identification: Connection closed by remote host\nConnection closed by 203.0.113.7 port 22\n"


def explained(said: str, *, is_remote: bool = True) -> CloudError:
    found = explain(said, machine="one", endpoint=HERE, is_remote=is_remote)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("said", "cause", "next_step"),
    [
        (CHANGED, "the server at 203.0.113.7:22 has another host key", "another computer may have the address"),
        (UNKNOWN, "its host key is not pinned on this computer", "that launched it"),
        (DENIED, "rejected this computer's key or the user", "authorized_keys"),
        (BAD_KEY, "rejected this computer's key or the user", "BAKEHOUSE_HOME"),
        (TIMED_OUT, "connection to 203.0.113.7:22 timed out", "--source"),
        (SILENT, "connection to 203.0.113.7:22 timed out", "./inv machines"),
        (CUT, "connection to 203.0.113.7:22 timed out", "./inv machines"),
        (NOT_UP, "refused: the machine is running, but its SSH server is not", "./inv log one"),
        (NO_ROUTE, "no route to host 203.0.113.7:22", "--no-public-ip"),
        (NO_NAME, "could not resolve the address 203.0.113.7:22", "./inv machines"),
        (CLOSED, "closed the connection", "./inv log one"),
    ],
)
def test_each_refusal_has_its_cause_and_its_next_step(said: str, cause: str, next_step: str) -> None:
    error = explained(said)
    assert cause in error.message
    assert next_step in error.next_step


def test_silence_on_this_computer_is_no_matter_of_a_firewall() -> None:
    assert "--source" not in explained(TIMED_OUT, is_remote=False).next_step


@pytest.mark.parametrize("said", ["", "make: *** [all] Error 255\n", "cp: cannot open 'x': Permission denied\n"])
def test_output_of_a_remote_command_is_no_refused_connection(said: str) -> None:
    assert explain(said, machine="one", endpoint=HERE, is_remote=True) is None


@contextmanager
def server(greeting: bytes, *, stays: bool) -> Iterator[int]:
    """Serve on loopback: send the banner, then nothing more, or disconnect."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(greeting)
            if stays:
                self.request.recv(1 << 16)
                over.wait(10)

    over = threading.Event()
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as found:
        found.daemon_threads = True
        threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True).start()
        yield int(found.server_address[1])
        over.set()
        found.shutdown()


def said_by_ssh(port: int, *, patience_s: int = 20) -> str:
    """Return the messages (`-E` file) of the real ssh for a server on loopback."""
    options = ("BatchMode=yes", f"ConnectTimeout={patience_s}", "UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=yes")
    words = [word for option in options for word in ("-o", option)]
    command = ["ssh", "-F", "none", *words, "-E", "/dev/stdout", "-p", str(port), "127.0.0.1", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 255
    return done.stdout


def test_message_of_the_real_ssh_for_a_closed_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert "its SSH server is not" in explained(said_by_ssh(taken.getsockname()[1])).message


def test_message_of_the_real_ssh_for_a_silent_server() -> None:
    with server(b"", stays=True) as port:
        assert "timed out" in explained(said_by_ssh(port, patience_s=1)).message


def test_message_of_the_real_ssh_for_a_server_that_disconnects() -> None:
    with server(b"SSH-2.0-fake\r\n", stays=False) as port:
        assert "closed the connection" in explained(said_by_ssh(port)).message


@pytest.fixture
def one(remote: RemoteCloud, jupyter: str, far_ssh: Path) -> RemoteCloud:
    """Launch a machine `one` with a notebook on a remote cloud, to which ssh can no longer log in."""
    launch_one(remote, "one")
    (far_ssh / "refusal").write_text(DENIED)
    return remote


@pytest.mark.parametrize("call", [ssh, run])
def test_refusal_of_a_shell_or_a_command_is_explained(one: RemoteCloud, call: Callable[..., object]) -> None:
    with pytest.raises(CloudError, match="rejected this computer's key") as raised:
        call(one, "one", ["true"])
    assert "authorized_keys" in raised.value.next_step


def test_words_of_a_command_that_fails_are_not_taken_for_those_of_ssh(one: RemoteCloud, far_ssh: Path) -> None:
    (far_ssh / "refusal").unlink()
    done = run(one, "one", ["sh", "-c", f"printf '{DENIED.strip()}' >&2; exit 255"])
    assert (done.returncode, done.stderr) == (255, DENIED.strip())


def test_messages_of_ssh_are_not_stored(one: RemoteCloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    with pytest.raises(CloudError):
        ssh(one, "one")
    assert list((tmp_path / "scratch").iterdir()) == []
