"""An unassigned machine whose memory is frozen, and the identity that it gets when it is restored."""

from __future__ import annotations

import base64
import shutil
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from clouds.waiter import until
from tests.bash_guest import NONCE, Guest
from tests.machine_code import HASH, LIBRARY, facts_told, identity_text, load_code, tell_facts

FACTS = {"MACHINE": "mine", "NONCE": NONCE, "AUTHORIZED_KEY": "ssh-ed25519 AAAA me", "PASSWORD_HASH": HASH, "EXPIRES": "0"}


@pytest.fixture
def frozen(machine: Guest) -> Guest:
    """Return a machine as restored from memory: booted without identity, and not to start a program in its first second."""
    machine.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    machine.write("etc/hosts", "127.0.0.1 localhost\n")
    machine.write("proc/sys/net/ipv4/conf/all/arp_notify", "0")
    machine.write("var/log/journal/0123456789abcdef0123456789abcdef/system.journal", "of the boot")
    for program in (machine.root / "bin").iterdir():
        program.write_text('#!/bin/bash\nprintf "%s\\n" "${0##*/} $*" >>"$CALLS"\n')
    return machine


@pytest.fixture
def memory() -> ModuleType:
    """Return the guest program for machines restored from memory."""
    return load_code("memory", (LIBRARY / "memory").read_text())


@pytest.fixture
def me(frozen: Guest, identity: ModuleType, memory: ModuleType) -> Any:
    """Return the machine as its own programs see it."""
    return memory.Machine(identity)


@pytest.fixture(scope="module")
def host_key(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return the private key of a pair as the launcher sends it, and the public key as ssh-keygen writes it."""
    path = tmp_path_factory.mktemp("keys") / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return base64.b64encode(path.read_bytes()).decode(), path.with_suffix(".pub").read_text().strip()


def test_it_becomes_the_machine_that_it_is_told_to_be(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0]})
    assert frozen.read("etc/hostname") == frozen.read("proc/sys/kernel/hostname") == "mine\n"
    assert frozen.read("etc/hosts") == "127.0.0.1 localhost\n127.0.1.1 mine\n"
    assert frozen.read("etc/ssh/ssh_host_ed25519_key.pub") == f"{host_key[1]} root@mine\n"
    assert frozen.read("etc/ssh/ssh_host_ed25519_key").encode() == base64.b64decode(host_key[0])
    assert frozen.read("var/lib/bakehouse/password-hash") == f"{HASH}\n"
    assert frozen.read("home/notebook/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n"
    assert frozen.read("var/lib/bakehouse/machine") == "mine\n"


def test_it_starts_no_program_for_that(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0]})
    assert frozen.read("calls") == ""


def test_with_tls_its_front_listens_anew_and_it_tells_its_certificate(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0], "HTTPS_PORT": "8888"})
    assert frozen.read("etc/bakehouse/front.d/listen.conf").startswith("listen 8888 ssl;\n")
    assert frozen.read("calls").splitlines()[-1] == "systemctl reload bakehouse-front"
    told = facts_told(frozen.read("console"))
    assert told["host-key"] == " ".join(host_key[1].split()[:2])
    assert len(told["certificate"]) == 95


def test_what_is_secret_is_for_its_owner_alone(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0]})
    secret = ("etc/ssh/ssh_host_ed25519_key", "var/lib/systemd/random-seed", "var/lib/bakehouse/cookie-secret")
    for path in (*secret, "var/lib/bakehouse/password-hash", "home/notebook/.ssh/authorized_keys"):
        assert (frozen.root / path).stat().st_mode & 0o777 == 0o600, path
    assert (frozen.root / "etc/ssh/ssh_host_ed25519_key.pub").stat().st_mode & 0o777 == 0o644


def test_machines_from_the_same_memory_share_nothing(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    told = {**FACTS, "HOST_KEY": host_key[0]}
    memory, seen = frozen.root / "var", []
    shutil.copytree(memory, frozen.root / "memory")
    for _ in range(3):
        shutil.rmtree(memory)
        shutil.copytree(frozen.root / "memory", memory)
        me.become(told)
        paths = ("etc/machine-id", "var/lib/systemd/random-seed", "var/lib/bakehouse/cookie-secret")
        seen.append([(frozen.root / path).read_bytes() for path in paths])
    assert all(len(set(values)) == 3 for values in zip(*seen, strict=True))
    assert len(seen[0][0]) == 33


def test_its_journal_goes_on_under_its_own_id(frozen: Guest, me: Any, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0]})
    machine_id = frozen.read("etc/machine-id").strip()
    assert [path.name for path in (frozen.root / "var/log/journal").iterdir()] == [machine_id]
    assert frozen.read(f"var/log/journal/{machine_id}/system.journal") == "of the boot"


def test_it_is_that_machine_when_it_boots_again(frozen: Guest, me: Any, identity: ModuleType, host_key: tuple[str, str]) -> None:
    me.become({**FACTS, "HOST_KEY": host_key[0]})
    before = frozen.read("var/lib/bakehouse/cookie-secret")
    tell_facts(frozen)
    identity.main()
    told = facts_told(frozen.read("console"))
    assert told == {"host-key": " ".join(host_key[1].split()[:2]), "ready": "identity"}
    assert frozen.read("var/lib/bakehouse/cookie-secret") == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"MACHINE": ""},
        {"HOST_KEY": "?"},
        {"HOST_KEY": base64.b64encode(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n").decode()},
    ],
)
def test_what_it_cannot_be_is_refused(frozen: Guest, me: Any, host_key: tuple[str, str], wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"."):
        me.become({**FACTS, "HOST_KEY": host_key[0], **wrong})
    assert not (frozen.root / "var/lib/bakehouse/machine").exists()
    assert not (frozen.root / "var/lib/bakehouse/password-hash").exists()


def test_a_machine_that_boots_takes_the_host_key_that_it_is_told(
    frozen: Guest, identity: ModuleType, host_key: tuple[str, str]
) -> None:
    tell_facts(frozen, HOST_KEY=host_key[0])
    identity.main()
    assert facts_told(frozen.read("console"))["host-key"] == " ".join(host_key[1].split()[:2])


ROUTES = "Iface\tDestination\nens9\t0002000A\nens4\t00000000\n"


@pytest.mark.parametrize(("routes", "name"), [(ROUTES, "ens4"), ("Iface\tDestination\n", "ens3")])
def test_it_takes_the_hardware_address_that_it_is_told(frozen: Guest, me: Any, memory: ModuleType, routes: str, name: str) -> None:
    frozen.write("proc/net/route", routes)
    for interface in ("ens3", "ens4", "ens9", "lo"):
        frozen.write(f"sys/class/net/{interface}/address", "52:54:00:00:00:01\n")
    given: list[tuple[str, str]] = []
    memory.set_mac = lambda interface, mac: given.append((interface, mac.hex(":")))
    me.take_mac("52:54:00:00:00:02")
    me.take_mac("52:54:00:00:00:01")
    assert given == [(name, "52:54:00:00:00:02")]
    assert frozen.read("proc/sys/net/ipv4/conf/all/arp_notify") == "1"


def test_a_hardware_address_that_cannot_be_set_is_told(frozen: Guest, me: Any) -> None:
    frozen.write("sys/class/net/ens3/address", "52:54:00:00:00:01\n")
    me.take_mac("no address")
    assert "ens3 keeps its hardware address: non-hexadecimal" in frozen.read("console")


def test_what_takes_long_comes_later(frozen: Guest, me: Any) -> None:
    me.settle({**FACTS, "EXPIRES": "4000000000"}, after_s=0)
    timer, journal = frozen.read("calls").splitlines()
    assert timer.startswith("systemd-run --quiet --unit=bakehouse-expiry --on-calendar=@4000000000")
    assert journal == "systemctl restart systemd-journald.service"


def test_a_machine_that_is_to_be_frozen_takes_no_identity(machine: Guest) -> None:
    """As started by systemd: another Python process, without this environment."""
    tell_facts(machine, FREEZE="1", MACHINE="", PASSWORD_HASH="", AUTHORIZED_KEY="")
    machine.write("identity.py", identity_text(machine))
    before = {path for path in machine.root.rglob("*") if path.is_file()}
    subprocess.run([sys.executable, "-I", "-S", str(machine.root / "identity.py")], check=True, env=machine.environ())
    after = {path for path in machine.root.rglob("*") if path.is_file()}
    assert after - before == {machine.root / "run/bakehouse/freezes", machine.root / "etc/bakehouse/front.d/listen.conf"}


@contextmanager
def answering(address: str | tuple[str, int], *statuses: int, asked: list[str] | None = None) -> Iterator[str | tuple[str, int]]:
    """Serve these statuses at an address, one for each visitor, and note what they ask; give the address."""
    left, noted = list(statuses), [] if asked is None else asked

    class Visit(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            noted.append(self.rfile.readline().decode().strip())
            self.wfile.write(b"HTTP/1.1 %d x\r\n\r\nhello" % left.pop(0))

    kind = type(
        "Server", (socketserver.TCPServer,), {"address_family": socket.AF_UNIX if isinstance(address, str) else socket.AF_INET}
    )
    with kind(address, Visit) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.005,))
        thread.start()
        yield server.server_address
        server.shutdown()
        thread.join()


@pytest.fixture
def jupyter(frozen: Guest, identity: ModuleType, memory: ModuleType) -> Iterator[str]:
    """Give the socket of Jupyter, by a path that is short enough for one."""
    (frozen.root / "run/jupyter").mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        identity.ROOT = f"{folder}/root"
        Path(identity.ROOT).symlink_to(frozen.root)
        yield identity.ROOT + memory.JUPYTER


def test_it_waits_until_what_it_offers_answers(frozen: Guest, me: Any, identity: ModuleType, jupyter: str) -> None:
    with answering(jupyter, 503, 503, 200), answering(("127.0.0.1", 0), 503) as front:
        frozen.write("etc/bakehouse/front.conf", "")
        identity.FRONT_PORT = front[1]
        me.await_services(poll_s=0.001)
    assert frozen.read("calls").splitlines() == ["systemctl start ssh.socket", "systemctl is-system-running --wait"]


def test_a_jupyter_that_never_answers_is_told(frozen: Guest, me: Any) -> None:
    frozen.write("etc/bakehouse/front.conf", "")
    with pytest.raises(TimeoutError, match=r"Jupyter did not respond within 0 s; its last status: none"):
        me.await_services(limit_s=0, poll_s=0)


def test_a_front_that_is_open_is_told(frozen: Guest, me: Any, identity: ModuleType, jupyter: str) -> None:
    with answering(jupyter, 200), answering(("127.0.0.1", 0), 200) as front:
        frozen.write("etc/bakehouse/front.conf", "")
        identity.FRONT_PORT = front[1]
        with pytest.raises(RuntimeError, match=r"returns 200 without a password"):
            me.await_services()


def test_jupyter_is_asked_while_it_becomes_somebody(frozen: Guest, me: Any, jupyter: str, host_key: tuple[str, str]) -> None:
    asked: list[str] = []
    frozen.write("etc/bakehouse/front.conf", "")
    with answering(jupyter, 200, asked=asked):
        me.become({**FACTS, "HOST_KEY": host_key[0]})
        until(lambda: asked, what="a request", timeout_s=10, poll_s=0.001)
    assert asked == ["GET /login HTTP/1.0"]


def test_a_machine_without_a_notebook_waits_for_none(frozen: Guest, me: Any) -> None:
    me.await_services()
    assert "systemctl start ssh.socket\n" in frozen.read("calls")
