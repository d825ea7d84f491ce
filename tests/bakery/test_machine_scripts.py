"""The programs of a machine, run here: how it gets its identity at boot, and a new password."""

from __future__ import annotations

import re
import subprocess
from types import ModuleType

import pytest

from launcher.access.notebook import NOTEBOOK_PORT
from tests.bash_guest import Guest
from tests.machine_code import HASH, TEMPLATES, facts_told, tell_facts


def boot(machine: Guest, identity: ModuleType) -> dict[str, str]:
    """Boot the machine; return the facts that it reports."""
    machine.write("console", "")
    identity.main()
    return facts_told(machine.read("console"))


def machine_script(name: str) -> str:
    return (TEMPLATES / "machine" / name).read_text(encoding="utf-8")


def test_a_machine_takes_its_identity_and_tells_its_host_key(machine: Guest, identity: ModuleType) -> None:
    tell_facts(machine, ABOUT="Machine mine, it's yours.")
    told = boot(machine, identity)
    assert machine.read("etc/motd.d/bakehouse") == "Machine mine, it's yours.\n"
    assert machine.read("etc/hostname") == "mine\n"
    assert "127.0.1.1 mine\n" in machine.read("etc/hosts")
    assert machine.read("var/lib/bakehouse/password-hash") == f"{HASH}\n"
    assert machine.read("home/notebook/.ssh/authorized_keys") == "ssh-ed25519 AAAA me\n"
    assert machine.read("etc/ssh/ssh_host_ed25519_key.pub").startswith(told["host-key"] + " ")
    assert told["ready"] == "identity"


def test_a_machine_keeps_its_identity_when_it_starts_again(machine: Guest, identity: ModuleType) -> None:
    tell_facts(machine)
    first = boot(machine, identity)
    machine.write("var/lib/bakehouse/password-hash", "a new one\n")
    assert boot(machine, identity) == first
    assert machine.read("var/lib/bakehouse/password-hash") == "a new one\n"


def test_a_copy_of_a_machine_takes_an_identity_of_its_own(machine: Guest, identity: ModuleType) -> None:
    tell_facts(machine)
    first = boot(machine, identity)
    tell_facts(machine, MACHINE="copy")
    assert boot(machine, identity)["host-key"] != first["host-key"]
    assert machine.read("etc/hostname") == "copy\n"


def test_a_machine_that_is_told_nothing_has_keys_but_no_password(machine: Guest, identity: ModuleType) -> None:
    assert boot(machine, identity) == {}
    assert (machine.root / "etc/ssh/ssh_host_ed25519_key").exists()
    assert not (machine.root / "var/lib/bakehouse/password-hash").exists()


def of_openssl(machine: Guest, *words: str) -> str:
    """Return what openssl says of a machine's certificate."""
    command = ["openssl", "x509", "-in", str(machine.root / "var/lib/bakehouse/tls.crt"), "-noout", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_machine_whose_notebook_is_open_with_tls_tells_the_fingerprint_of_its_certificate(
    machine: Guest, identity: ModuleType
) -> None:
    tell_facts(machine, HTTPS_PORT="8443")
    told = boot(machine, identity)
    assert re.fullmatch(r"([0-9A-F]{2}:){31}[0-9A-F]{2}", told["certificate"])
    assert of_openssl(machine, "-fingerprint", "-sha256").strip().endswith(told["certificate"])
    assert (machine.root / "var/lib/bakehouse/tls.key").stat().st_mode & 0o777 == 0o600
    assert "NIST CURVE: P-256" in of_openssl(machine, "-text")
    assert sorted(path.name for path in (machine.root / "var/lib/bakehouse").glob("tls.*")) == ["tls.crt", "tls.key"]


@pytest.mark.parametrize(
    ("port", "listens"),
    [
        ("", ["8888 default_server"]),
        ("8443", ["8888 default_server", "8443 ssl"]),
        (str(NOTEBOOK_PORT), [f"{NOTEBOOK_PORT} ssl"]),
    ],
)
def test_the_front_listens_with_tls_besides_or_at_its_own_port_instead(
    machine: Guest, identity: ModuleType, port: str, listens: list[str]
) -> None:
    conf = machine.root / "etc/bakehouse/front.d/listen.conf"
    for facts in ({"HTTPS_PORT": "9999"}, {"HTTPS_PORT": port}):
        tell_facts(machine, **facts)
        boot(machine, identity)
    assert re.findall(r"^listen (.*);$", conf.read_text(), re.MULTILINE) == listens
    assert conf.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({}, "DNS:mine"),
        ({"HTTPS_ADDRESS": "203.0.113.7"}, "IP Address:203.0.113.7"),
        ({"HTTPS_ADDRESS": "2001:db8::7"}, "IP Address:2001:DB8:0:0:0:0:0:7"),
        ({"HTTPS_ADDRESS": "lab.example"}, "DNS:lab.example"),
    ],
)
def test_the_certificate_is_for_the_address_that_the_machine_is_told(
    machine: Guest, identity: ModuleType, facts: dict[str, str], name: str
) -> None:
    tell_facts(machine, HTTPS_PORT="443", **facts)
    boot(machine, identity)
    assert name in of_openssl(machine, "-ext", "subjectAltName")


def test_a_machine_keeps_its_certificate_and_a_copy_of_it_takes_its_own(machine: Guest, identity: ModuleType) -> None:
    told = []
    for name in ("mine", "mine", "copy"):
        tell_facts(machine, MACHINE=name, HTTPS_PORT="443")
        told.append(boot(machine, identity)["certificate"])
    assert told[0] == told[1] != told[2]


def test_a_machine_without_tls_has_no_certificate(machine: Guest, identity: ModuleType) -> None:
    tell_facts(machine)
    assert "certificate" not in boot(machine, identity)
    assert not (machine.root / "var/lib/bakehouse/tls.key").exists()


@pytest.mark.parametrize(
    ("expires", "called"),
    [
        ("0", ""),
        ("4000000000", "systemd-run --quiet --unit=bakehouse-expiry --on-calendar=@4000000000"),
        ("1", "systemctl --no-block poweroff"),
    ],
)
def test_a_machine_ends_itself_when_its_time_is_over(machine: Guest, identity: ModuleType, expires: str, called: str) -> None:
    tell_facts(machine, EXPIRES=expires)
    boot(machine, identity)
    assert machine.read("calls").startswith(called)
    assert bool(machine.read("calls")) == bool(called)


def set_password(machine: Guest, stdin: str) -> int:
    (machine.root / "stdin").write_text(stdin)
    text = machine_script("set-password.sh.j2").replace("set -E", f"exec <{machine.root}/stdin\nset -E", 1)
    machine.run_text(f"( {text}\n)\nprintf '%s' $? >{machine.root}/status")
    return int(machine.read("status"))


def test_a_new_password_replaces_the_old_one(machine: Guest) -> None:
    machine.write("var/lib/bakehouse/password-hash", "old\n")
    assert set_password(machine, f"{HASH}\n") == 0
    assert machine.read("var/lib/bakehouse/password-hash") == f"{HASH}\n"
    assert (machine.root / "var/lib/bakehouse/password-hash").stat().st_mode & 0o777 == 0o600
    assert HASH not in machine.read("calls")


@pytest.mark.parametrize("stdin", ["", "\n", "secret\n", "sha1:abc:def\n"])
def test_what_is_no_hash_leaves_the_password_as_it_was(machine: Guest, stdin: str) -> None:
    machine.write("var/lib/bakehouse/password-hash", "old\n")
    assert set_password(machine, stdin) != 0
    assert machine.read("var/lib/bakehouse/password-hash") == "old\n"
