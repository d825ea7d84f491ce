"""Files are sent to a builder: whole, from where a connection broke, to the right machine alone, and within a time."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from bakery.sending import KEY, KNOWN_HOSTS, MANIFEST, Sending
from clouds.driver import Base, BootSpec, Endpoint
from clouds.errors import CloudError
from clouds.home import write_private
from tests import fake_sftp
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

pytestmark = pytest.mark.program

LARGE = bytes(range(256)) * 4000
FILES = {"a.tar": LARGE, "b.tar": LARGE[:5000], "script": b"echo\n"}
HERE = Endpoint("127.0.0.1", 22)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fake_sftp.Store:
    folder = fake_sftp.install(tmp_path / "bin", tmp_path / "store")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    found = fake_sftp.Store(tmp_path / "store")
    found.listen("one", list(FILES))
    return found


class Client:
    """The sending side: a folder with the files, and what it has told."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        for name, content in FILES.items():
            (folder / name).write_bytes(content)
        write_private(folder / KEY, "-----BEGIN OPENSSH PRIVATE KEY-----\n")
        write_private(folder / KNOWN_HOSTS, f"one {fake_sftp.HOST_KEY}\n")
        write_private(folder / MANIFEST, "".join(f"{hashlib.sha256(text).hexdigest()}  {name}\n" for name, text in FILES.items()))
        self.folder, self.told = folder, list[str]()
        self.cloud = FakeCloud(World(folder))
        self.cloud.slowness = 0.01
        base = self.cloud.resolve_base(Base("trixie", "amd64")).id
        sizes = {"cpus": 1, "memory_mb": 512, "disk_gb": 4}
        self.cloud.boot(BootSpec(name="one", token="t", source=base, labels={}, deadline_s=0, **sizes))

    def send(self, endpoint: Endpoint = HERE, *, timeout_s: float = 60) -> None:
        sizes = {name: len(content) for name, content in FILES.items()}
        Sending(self.cloud, "one", endpoint, self.folder, sizes, self.told.append, progress_s=0.0).run(timeout_s)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path / "send")


def test_everything_arrives_and_the_builder_is_told_so_last(store: fake_sftp.Store, client: Client) -> None:
    client.send()
    assert len(store.calls) == 2
    assert store.calls[-1][-1] == f"rename {MANIFEST} complete"
    assert store.close("one") == FILES


def test_a_transfer_that_broke_continues_where_it_broke(store: fake_sftp.Store, client: Client) -> None:
    store.break_off(300_000, 1, 400_000, 2000)
    client.send()
    sent = [command for call in store.calls for command in call if "put" in command]
    assert sent == [
        "put a.tar a.tar",
        *["reput a.tar a.tar"] * 4,
        "put b.tar b.tar",
        "put script script",
        f"put {MANIFEST} {MANIFEST}",
    ]
    assert store.close("one") == FILES
    assert sum("connection to the builder broke (Connection closed); continuing" in line for line in client.told) == 4


def unreachable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: fake_sftp.Store, first: int, last: int) -> None:
    """Let the connections of these numbers fail before anything is sent."""
    real = fake_sftp.install(tmp_path / "real", store.folder) / "sftp"
    script = (
        f"#!/bin/sh\necho >>{tmp_path}/number; number=$(wc --lines <{tmp_path}/number)\n"
        f'if [ "$number" -lt {first} ] || [ "$number" -gt {last} ]; then exec {real} "$@"; fi\n'
        'echo "ssh: connect to host 203.0.113.7 port 22: Network is unreachable" >&2\necho "Connection closed" >&2\nexit 255\n'
    )
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate/sftp").write_text(script)
    (tmp_path / "gate/sftp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'gate'}{os.pathsep}{os.environ['PATH']}")


def test_a_network_that_is_down_before_the_last_command_is_waited_for(
    store: fake_sftp.Store, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable(tmp_path, monkeypatch, store, 2, 6)
    client.send()
    assert store.has_everything("one")
    assert store.close("one") == FILES


def test_an_ssh_server_that_ends_with_the_last_command_has_everything(
    store: fake_sftp.Store, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The builder ends it as soon as it has everything, so the answer may be lost."""
    real = fake_sftp.install(tmp_path / "real", store.folder) / "sftp"
    over, machine = tmp_path / "over", store.folder / "one"
    closing = f'#!/bin/sh\n{real} "$@" || exit\nif [ -e {machine}/files/complete ]; then mv {machine} {over}; exit 255; fi\n'
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate/sftp").write_text(closing)
    (tmp_path / "gate/sftp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'gate'}{os.pathsep}{os.environ['PATH']}")
    client.send()
    assert (over / "files/complete").exists()


def test_a_file_that_became_too_long_is_sent_again_from_its_start(store: fake_sftp.Store, client: Client) -> None:
    store.break_off(300_000)
    Path(store.folder / "one/files/b.tar").write_bytes(b"x" * 6000)  # of a connection that was given up, and went on
    client.send()
    assert store.close("one") == FILES


def test_an_ssh_server_that_is_not_up_yet_is_waited_for(store: fake_sftp.Store, client: Client, tmp_path: Path) -> None:
    (tmp_path / "store/one").rename(tmp_path / "away")
    with pytest.raises(CloudError, match=r"sending 1\.0 MB over SSH: timed out after 2 s; last seen: .*Connection refused"):
        client.send(timeout_s=2)
    (tmp_path / "away").rename(tmp_path / "store/one")
    client.send()
    assert store.close("one") == FILES
    assert not any("broke" in line for line in client.told)


def test_a_builder_that_ends_meanwhile_ends_the_transfer(client: Client, store: fake_sftp.Store) -> None:
    store.break_off(0)
    client.cloud.stop("one")
    client.send()
    assert not store.has_everything("one")


def test_another_host_key_is_an_error_at_once(store: fake_sftp.Store, client: Client) -> None:
    store.listen("one", [], host_key="ssh-ed25519 AAAAother")
    with pytest.raises(CloudError, match="machine 'one': its host key is not pinned on this computer"):
        client.send()
    assert store.files("one")["a.tar"] == b""


def test_a_key_that_is_rejected_is_an_error_at_once(store: fake_sftp.Store, client: Client) -> None:
    (client.folder / KEY).chmod(0o644)
    with pytest.raises(CloudError, match="rejected this computer's key"):
        client.send()


def test_a_command_that_fails_is_an_error_with_what_sftp_says(store: fake_sftp.Store, client: Client) -> None:
    (store.folder / "one/files/a.tar").unlink()
    (store.folder / "one/files/a.tar").mkdir()
    with pytest.raises(CloudError, match="machine one: sftp failed\n"):
        client.send()


def test_progress_is_reported_of_a_large_file(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that reads half of a file and waits stands for a slow sftp."""
    (tmp_path / "bin").mkdir()
    slow = "#!/bin/sh\nexec 3<a.tar\nhead --bytes=512000 >/dev/null <&3\nexec sleep 60\n"
    (tmp_path / "bin/sftp").write_text(slow)
    (tmp_path / "bin/sftp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(CloudError, match="timed out after"):
        client.send(timeout_s=2)
    assert client.told[0] == "sending 1.0 MB to the builder"
    assert any(re.fullmatch(r"sending 1\.0 MB to the builder \((49|50) %\)", line) for line in client.told)
