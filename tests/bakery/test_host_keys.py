"""Keys that packages make for a host: no image has them, each machine makes its own."""

from __future__ import annotations

import subprocess
from types import ModuleType

import pytest

from tests.bash_guest import SYSTEM_PATH, Guest
from tests.machine_code import TEMPLATES, tell_facts

KEYS = {
    "ssl-cert": ("etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"),
    "dropbear": tuple(f"etc/dropbear/dropbear_{kind}_host_key" for kind in ("rsa", "ecdsa", "ed25519")),
    "bind9": ("etc/bind/rndc.key",),
    "xrdp": ("etc/xrdp/rsakeys.ini",),
    "munge": ("etc/munge/munge.key",),
    "nsd": tuple(f"etc/nsd/nsd_{who}.{what}" for who in ("control", "server") for what in ("key", "pem")),
    "rabbitmq-server": ("var/lib/rabbitmq/.erlang.cookie",),
    "open-iscsi": ("etc/iscsi/initiatorname.iscsi",),
}
OF_SERVICES = {
    "ejabberd": ("var/lib/ejabberd/.erlang.cookie",),
    "pcs": ("var/lib/pcsd/pcsd.key", "var/lib/pcsd/pcsd.crt"),
    "dkms": ("var/lib/dkms/mok.key", "var/lib/dkms/mok.pub"),
    "mysql": tuple(f"var/lib/mysql/{name}" for name in ("auto.cnf", "ca-key.pem", "server-key.pem", "private_key.pem")),
}
"""Keys that a service itself makes when it starts without them."""
MAKERS = {
    "make-ssl-cert": 'for file in {ssl-cert}; do echo "$RANDOM$RANDOM" >"$ROOT/$file"; done',
    "dropbearkey": 'echo "$RANDOM$RANDOM" >"${@: -1}"',
    "rndc-confgen": 'echo "$RANDOM$RANDOM" >"$ROOT/{bind9}"',
    "xrdp-keygen": 'echo "$RANDOM$RANDOM" >"$ROOT/{xrdp}"',
    "setpriv": 'echo "$RANDOM$RANDOM" >"$ROOT/{munge}"; [[ $* == *"mungekey --create" ]]',
    "nsd-control-setup": 'for file in {nsd}; do echo "$RANDOM$RANDOM" >"$ROOT/$file"; done',
    "openssl": '[[ "$1 ${@: -1}" == "rand 42" ]] && echo "$RANDOM$RANDOM" >"$ROOT/{rabbitmq-server}"',
    "iscsi-iname": 'echo "iqn.1993-08.org.debian:01:$RANDOM"',
    "systemctl": """printf '%s\\n' "systemctl $*" >>"$CALLS"
if [[ $1 == list-units ]]; then
  while read -r unit; do
    for pattern in "${@:5}"; do
      # shellcheck disable=SC2053
      [[ $unit != $pattern ]] || echo "$unit loaded active running x"
    done
  done <"$ROOT/active"
else
  grep --quiet --line-regexp --fixed-strings -- "${@: -1}" "$ROOT/active" || exit 5 # as for a unit that is not installed
fi""",
}


@pytest.fixture
def guest(machine: Guest) -> Guest:
    """Return a machine with all these packages, as installed."""
    paths = {package: " ".join(files) for package, files in KEYS.items()}
    for name, body in MAKERS.items():
        for package, files in paths.items():
            body = body.replace(f"{{{package}}}", files)
        machine.write(f"bin/{name}", f"#!/bin/bash\nROOT={machine.root}\n{body}\n")
        (machine.root / "bin" / name).chmod(0o755)
    for file in (file for files in (KEYS | OF_SERVICES).values() for file in files):
        machine.write(file, "of the builder\n")
    machine.write("active", "postgresql@17-main.service\nnamed.service\ncron.service\n")
    (machine.root / "etc/ssl/certs/0a1b2c3d.0").symlink_to("ssl-cert-snakeoil.pem")
    return machine


def host_keys(guest: Guest, word: str) -> subprocess.CompletedProcess[str]:
    text = SYSTEM_PATH.sub(str(guest.root), (TEMPLATES / "machine/host-keys.sh.j2").read_text(encoding="utf-8"))
    command = ["bash", "-c", text, "host-keys", word]
    return subprocess.run(command, env=guest.environ(), capture_output=True, text=True, timeout=60, check=False)


def contents(guest: Guest) -> dict[str, str]:
    paths = (file for files in (KEYS | OF_SERVICES).values() for file in files)
    return {path: guest.read(path) for path in paths if (guest.root / path).exists()}


def test_seal_removes_every_key_and_a_machine_makes_its_own(guest: Guest) -> None:
    assert host_keys(guest, "remove").returncode == 0
    assert contents(guest) == {}
    assert list((guest.root / "etc/ssl/certs").iterdir()) == []
    assert host_keys(guest, "make").returncode == 0
    made = contents(guest)
    assert made.keys() == {file for files in KEYS.values() for file in files}
    assert "of the builder\n" not in made.values()


def test_machine_keeps_its_keys_when_it_starts_again(guest: Guest) -> None:
    host_keys(guest, "remove")
    host_keys(guest, "make")
    made = contents(guest)
    assert host_keys(guest, "make").returncode == 0
    assert contents(guest) == made


def test_image_without_such_packages_gets_no_keys(machine: Guest) -> None:
    (machine.root / "etc/ssl/certs").mkdir(parents=True)
    assert host_keys(machine, "remove").returncode == 0
    assert not (machine.root / "var/lib/bakehouse/host-keys").exists()


def test_only_packages_that_are_there_are_made_anew(guest: Guest) -> None:
    for file in (file for package, files in (KEYS | OF_SERVICES).items() if package != "ssl-cert" for file in files):
        (guest.root / file).unlink()
    host_keys(guest, "remove")
    host_keys(guest, "make")
    assert contents(guest).keys() == set(KEYS["ssl-cert"])


def test_key_that_cannot_be_made_is_told_and_the_others_are_made(guest: Guest) -> None:
    host_keys(guest, "remove")
    guest.write("bin/make-ssl-cert", "#!/bin/bash\nexit 1\n")
    done = host_keys(guest, "make")
    assert done.returncode == 1
    assert done.stderr == "ssl-cert: could not make its keys\n"
    assert contents(guest).keys() == {file for package, files in KEYS.items() if package != "ssl-cert" for file in files}


def test_keys_are_renewed_and_services_reload_them(guest: Guest) -> None:
    host_keys(guest, "remove")
    host_keys(guest, "make")
    before = contents(guest)
    for file in OF_SERVICES["mysql"]:  # its service has started
        guest.write(file, "of the saved memory\n")
    done = host_keys(guest, "renew")
    assert (done.returncode, done.stderr) == (0, "")
    after = contents(guest)
    assert after.keys() == before.keys()
    assert all(after[path] != before[path] for path in before)
    assert [call for call in guest.read("calls").splitlines() if call.startswith("systemctl try-")] == [
        "systemctl try-reload-or-restart --no-block postgresql@17-main.service",
        "systemctl try-restart --no-block named.service",
    ]


def test_keys_in_the_data_folder_of_mariadb_are_the_user_s(machine: Guest) -> None:
    (machine.root / "etc/ssl/certs").mkdir(parents=True)
    machine.write("var/lib/mysql/server-key.pem", "the user's\n")
    assert host_keys(machine, "remove").returncode == 0
    assert machine.read("var/lib/mysql/server-key.pem") == "the user's\n"


def test_mariadb_which_keeps_its_key_in_memory_makes_another_one(machine: Guest) -> None:
    """Without a certificate of its user's, MariaDB makes one whenever it starts, and writes it nowhere."""
    machine.write("bin/systemctl", MAKERS["systemctl"].replace("$ROOT", str(machine.root)))
    machine.write("usr/sbin/mariadbd", "")
    (machine.root / "etc/ssl/certs").mkdir(parents=True)
    assert host_keys(machine, "remove").returncode == 0
    assert host_keys(machine, "make").returncode == 0
    machine.write("active", "mariadb.service\n")
    assert host_keys(machine, "renew").returncode == 0
    assert machine.read("calls").splitlines()[-1] == "systemctl try-restart --no-block mariadb.service"


def test_removed_key_is_not_left_in_a_free_part_of_the_disk(guest: Guest) -> None:
    """Another name of the same file shows what has become of its blocks."""
    (guest.root / "same").hardlink_to(guest.root / KEYS["ssl-cert"][0])
    host_keys(guest, "remove")
    assert "of the builder" not in guest.read("same")


@pytest.mark.parametrize(("is_restored", "has_keys", "renews"), [(True, True, True), (True, False, False), (False, True, False)])
def test_machine_that_was_restored_renews_the_keys_in_its_memory(
    machine: Guest, identity: ModuleType, is_restored: bool, has_keys: bool, renews: bool
) -> None:
    if is_restored:
        machine.write("run/bakehouse/freezes", "")
    if has_keys:
        machine.write("var/lib/bakehouse/host-keys", "ssl-cert\n")
    tell_facts(machine)
    identity.main()
    assert ("host-keys renew" in machine.read("calls")) == renews
