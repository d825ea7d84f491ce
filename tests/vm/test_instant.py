"""Machines that are restored from the saved memory of their image: each has an identity of its own."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from clouds.errors import CloudError
from launcher.access.notebook import Session, answers, login
from tests.vm.bakehouse import Bakehouse, holds

pytestmark = pytest.mark.vm

COUNT = 3
WHO_I_AM = r"""
set -e
echo "machine-id=$(cat /etc/machine-id)"
echo "hostname=$(hostname)"
echo "mac=$(cat /sys/class/net/e*/address)"
echo "host-key=$(cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
echo "private-host-key=$(sudo sed --quiet 4p /etc/ssh/ssh_host_ed25519_key)"
echo "password-hash=$(sudo cat /var/lib/bakehouse/password-hash)"
echo "cookie-secret=$(sudo cat /var/lib/bakehouse/cookie-secret)"
echo "random-seed=$(sudo sha256sum /var/lib/systemd/random-seed | cut -d' ' -f1)"
echo "getrandom=$(python3 -c 'import os; print(os.getrandom(32).hex())')"
echo "random-of-python=$(python3 -c 'import random; print(random.getrandbits(256))')"
echo "random-of-openssl=$(openssl rand -hex 32)"
echo "authorized-key=$(cut -d' ' -f2 .ssh/authorized_keys)"
echo "clock=$(date +%s.%N)"
"""
"""What a shell in a machine says of it, right after the launch."""
SAME = {"authorized-key", "clock"}
IN_THE_KERNEL = """
import glob, os, sys, time
from jupyter_client import BlockingKernelClient
path = max(glob.glob(os.path.expanduser("~/.local/share/jupyter/runtime/kernel-*.json")), key=os.path.getmtime)
client = BlockingKernelClient(connection_file=path)
client.load_connection_file()
client.start_channels()
for left in reversed(range(60)):
    try:
        client.wait_for_ready(timeout=120)
        break
    except RuntimeError:  # no heartbeat: it is only just starting
        if not left:
            raise
        time.sleep(1)
client.execute_interactive(sys.argv[1], timeout=120)
"""
PRINT_BOOT = "print(open('/proc/sys/kernel/random/boot_id').read())"
"""Code for a kernel: print the id of this boot."""


def who(bakehouse: Bakehouse, name: str) -> dict[str, str]:
    """Return what a machine says of itself."""
    said = bakehouse.must("ssh", name, "--", "bash", "-c", WHO_I_AM, timeout_s=120).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


@pytest.fixture(scope="module")
def machines(bakehouse: Bakehouse, notebook: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Give machines from one memory, and what each said of itself right after its launch."""
    assert notebook["image"]
    names, made = [f"instant-{number}" for number in range(COUNT)], []
    try:
        for name in names:
            finished = bakehouse.must("launch", "--recipe", notebook["recipe"], "--name", name, "--json")
            assert "booting" not in finished.stderr, finished.stderr
            asked = time.time()
            made.append({**finished.result, "said": who(bakehouse, name), "between": (asked - 5, time.time() + 5)})
        yield made
    finally:
        for name in names:
            bakehouse.run("delete", name, "--yes")
    assert bakehouse.left_overs() == []


@pytest.mark.parametrize("what", [word for word in re.findall(r'"([\w-]+)=', WHO_I_AM) if word not in SAME])
def test_no_two_machines_share_what_makes_them(machines: list[dict[str, Any]], what: str) -> None:
    values = [machine["said"][what] for machine in machines]
    assert all(values)
    assert len(set(values)) == COUNT


def test_machines_let_in_their_owner_and_know_the_time(bakehouse: Bakehouse, machines: list[dict[str, Any]]) -> None:
    key = (bakehouse.home / "ssh/id_ed25519.pub").read_text().split()[1]
    for machine in machines:
        assert machine["said"]["authorized-key"] == key
        earliest, latest = machine["between"]
        assert earliest <= float(machine["said"]["clock"]) <= latest


def test_a_machine_that_goes_on_answers_without_a_boot(bakehouse: Bakehouse, machines: list[dict[str, Any]]) -> None:
    for machine in machines:
        assert "Linux version" not in bakehouse.must("log", machine["name"]).stdout
        assert login(machine["url"], machine["password"])
        assert login(machine["url"], machines[0]["password"] + "x") is None


def test_what_jupyter_draws_at_random_differs(machines: list[dict[str, Any]]) -> None:
    cookies = [login(machine["url"], machine["password"]) for machine in machines]
    assert len({session.cookies["_xsrf"] for session in cookies if session}) == COUNT


def test_jupyter_takes_a_new_password_without_a_restart(bakehouse: Bakehouse, machines: list[dict[str, Any]]) -> None:
    name, url = machines[0]["name"], machines[0]["url"]
    pid = ("sudo", "systemctl", "show", "--property=MainPID", "jupyter.service")
    before = bakehouse.must("ssh", name, "--", *pid).stdout
    new = bakehouse.must("password", name).stdout.strip()
    assert login(url, new)
    assert login(url, machines[0]["password"]) is None
    assert bakehouse.must("ssh", name, "--", *pid).stdout == before


def test_the_memory_holds_no_secret_of_any_machine(
    bakehouse: Bakehouse, machines: list[dict[str, Any]], notebook: dict[str, Any]
) -> None:
    secrets = []
    for machine in machines:
        record = json.loads((bakehouse.home / "local/machines" / machine["name"] / "machine.json").read_text())
        facts, said = record["facts"], machine["said"]
        secrets += [machine["password"], facts["PASSWORD_HASH"], facts["NONCE"], facts["HOST_KEY"][-80:], said["private-host-key"]]
        secrets += [said["cookie-secret"], said["machine-id"], said["password-hash"], said["authorized-key"]]
    needles = [secret.encode() for secret in secrets]
    kept = [path for path in (bakehouse.home / "local/images" / notebook["image"] / "memory").iterdir() if path.is_file()]
    assert {"ram", "state", "disk.qcow2"} <= {path.name for path in kept}
    assert [path.name for path in kept if holds(path, needles)] == []


@pytest.mark.long
def test_a_suspended_machine_goes_on_with_its_kernels_and_their_variables(
    bakehouse: Bakehouse, machines: list[dict[str, Any]]
) -> None:
    machine = machines[1]
    session = login(machine["url"], machine["password"])
    assert session
    assert session.post(f"/api/kernels?_xsrf={session.cookies['_xsrf']}", {}).status == 201
    boot = run_in_kernel(bakehouse, machine["name"], f"x = 41; {PRINT_BOOT}")
    assert len(boot.split()) == 1
    bakehouse.must("stop", machine["name"], "--suspend")
    assert not answers(machine["url"], timeout_s=1)
    [row] = [row for row in bakehouse.must("machines", "--json").result if row["name"] == machine["name"]]
    assert row["state"] == "suspended"
    time.sleep(10)  # a clock that nobody sets would be late by more than it may be
    bakehouse.must("start", machine["name"])
    assert session.get("/api/kernels").status == 200  # the old session, at the old URL
    assert run_in_kernel(bakehouse, machine["name"], f"print(x + 1); {PRINT_BOOT}").split() == ["42", *boot.split()]
    asked = time.time()
    now = bakehouse.must("ssh", machine["name"], "--", "date", "+%s").stdout
    assert asked - 5 <= float(now) <= time.time() + 5


def run_in_kernel(bakehouse: Bakehouse, name: str, code: str) -> str:
    """Run code in the newest kernel of a machine, and return what it prints."""
    command = ("/opt/notebook/bin/python", "-c", IN_THE_KERNEL, code)
    return bakehouse.must("ssh", name, "--", *command, timeout_s=300).stdout


@pytest.mark.long
def test_a_stopped_machine_boots_and_keeps_its_identity_and_its_files(bakehouse: Bakehouse, machines: list[dict[str, Any]]) -> None:
    machine = machines[2]
    bakehouse.must("ssh", machine["name"], "--", "sh", "-c", "echo kept > kept.txt")
    bakehouse.must("stop", machine["name"])
    assert not answers(machine["url"], timeout_s=1)
    [listed] = [row for row in bakehouse.must("machines", "--json").result if row["name"] == machine["name"]]
    assert listed["state"] == "stopped"
    bakehouse.must("start", machine["name"])
    assert bakehouse.must("ssh", machine["name"], "--", "cat", "kept.txt").stdout.strip() == "kept"
    after = who(bakehouse, machine["name"])
    for what in ("machine-id", "hostname", "mac", "host-key", "password-hash", "cookie-secret"):
        assert after[what] == machine["said"][what]
    assert login(machine["url"], machine["password"])


@pytest.mark.long
def test_with_https_it_answers_at_the_chosen_port_with_the_pinned_certificate(
    bakehouse: Bakehouse, notebook: dict[str, Any]
) -> None:
    """The port is that of the notebook in the guest, where the certificate takes the place of the plain one."""
    wanted = ("launch", "--recipe", notebook["recipe"], "--name", "open", "--https", "--port", "8888")
    before = sorted(bakehouse.left_overs())  # other machines of this file
    with socket.create_server(("127.0.0.1", 8888)):
        refused = bakehouse.run(*wanted)
    assert refused.status == 1
    assert "error: port 8888 of this computer is in use" in refused.stderr
    assert sorted(bakehouse.left_overs()) == before
    finished = bakehouse.must(*wanted, "--json")
    try:
        url, certificate = finished.result["url"], finished.result["certificate"]
        assert (url, "booting" in finished.stderr) == ("https://127.0.0.1:8888/", False)
        for verbs in ((), (("stop", "open", "--suspend"), ("start", "open")), (("stop", "open"), ("start", "open"))):
            for verb in verbs:
                bakehouse.must(*verb)
            assert Session(url, 60, certificate).get("/login").status == http.client.OK
            with pytest.raises(CloudError, match="its certificate is not the one that the machine reported"):
                Session(url, 60, "00" * 32).get("/login")
            assert not answers(url.replace("https", "http"))
        assert bakehouse.must("open", "open").stdout.split()[-1] == url
        assert [one["url"] for one in bakehouse.must("machines", "--json").result if one["name"] == "open"] == [url]
    finally:
        bakehouse.must("delete", "open", "--yes")
