"""Machines that go on from the memory of their image: each is its own, and what cannot go on boots or says why."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.notebook import answers, login
from tests.vm.bakehouse import Bakehouse, Finished, holds

pytestmark = pytest.mark.vm

COUNT = 3
WHO_I_AM = r"""
set -e
echo "machine-id=$(cat /etc/machine-id)"
echo "hostname=$(hostname)"
echo "mac=$(cat /sys/class/net/e*/address)"
echo "host-key=$(cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)"
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


def who(bakehouse: Bakehouse, name: str) -> dict[str, str]:
    """Return what a machine says of itself."""
    said = bakehouse.must("ssh", name, "--", "bash", "-c", WHO_I_AM, timeout_s=120).stdout
    return dict(line.split("=", 1) for line in said.splitlines())


def launch(bakehouse: Bakehouse, name: str, *flags: str) -> tuple[dict[str, Any], Finished]:
    """Launch a machine; return what is said of it, and how the command ended."""
    finished = bakehouse.must("launch", "--name", name, *flags, "--json")
    return finished.result, finished


@pytest.fixture(scope="module")
def machines(bakehouse: Bakehouse, jupyter: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Give machines from one memory, and what each said of itself right after its launch."""
    assert jupyter["image"]
    made = []
    for number in range(COUNT):
        launched, finished = launch(bakehouse, f"instant-{number}")
        assert "booting" not in finished.stderr
        asked = time.time()
        made.append({**launched, "said": who(bakehouse, launched["name"]), "between": (asked - 5, time.time() + 5)})
    yield made
    for machine in made:
        bakehouse.run("delete", machine["name"], "--yes")
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
    bakehouse: Bakehouse, machines: list[dict[str, Any]], jupyter: dict[str, Any]
) -> None:
    secrets = []
    for machine in machines:
        record = json.loads((bakehouse.home / "local/machines" / machine["name"] / "machine.json").read_text())
        facts, said = record["facts"], machine["said"]
        host_key = bakehouse.must("ssh", machine["name"], "--", "sudo", "cat", "/etc/ssh/ssh_host_ed25519_key").stdout
        secrets += [machine["password"], facts["PASSWORD_HASH"], facts["NONCE"], facts["HOST_KEY"][-80:], host_key.splitlines()[3]]
        secrets += [said["cookie-secret"], said["machine-id"], said["password-hash"], said["authorized-key"]]
    needles = [secret.encode() for secret in secrets]
    kept = [path for path in (bakehouse.home / "local/images" / jupyter["image"] / "memory").iterdir() if path.is_file()]
    assert {"ram", "state", "disk.qcow2"} <= {path.name for path in kept}
    assert [path.name for path in kept if holds(path, needles)] == []


def test_a_suspended_machine_goes_on_with_its_kernels_and_their_variables(
    bakehouse: Bakehouse, machines: list[dict[str, Any]]
) -> None:
    machine = machines[1]
    session = login(machine["url"], machine["password"])
    assert session
    assert session.post(f"/api/kernels?_xsrf={session.cookies['_xsrf']}", {}).status == 201
    run_in_kernel(bakehouse, machine["name"], "x = 41")
    boot = bakehouse.must("ssh", machine["name"], "--", "cat", "/proc/sys/kernel/random/boot_id").stdout
    bakehouse.must("stop", machine["name"], "--suspend")
    assert not answers(machine["url"], timeout_s=1)
    [row] = [row for row in bakehouse.must("machines", "--json").result if row["name"] == machine["name"]]
    assert row["state"] == "suspended"
    time.sleep(10)  # a clock that nobody sets would be late by more than it may be
    bakehouse.must("start", machine["name"])
    assert session.get("/api/kernels").status == 200  # the old session, at the old URL
    assert "42" in run_in_kernel(bakehouse, machine["name"], "print(x + 1)")
    assert bakehouse.must("ssh", machine["name"], "--", "cat", "/proc/sys/kernel/random/boot_id").stdout == boot
    asked = time.time()
    now = bakehouse.must("ssh", machine["name"], "--", "date", "+%s").stdout
    assert asked - 5 <= float(now) <= time.time() + 5


def run_in_kernel(bakehouse: Bakehouse, name: str, code: str) -> str:
    """Run code in the newest kernel of a machine, and return what it prints."""
    command = ("/opt/notebook/bin/python", "-c", IN_THE_KERNEL, code)
    return bakehouse.must("ssh", name, "--", *command, timeout_s=300).stdout


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


# What cannot go on from its memory (of the small image: a boot takes seconds)


@pytest.fixture
def small(bakehouse: Bakehouse, minimal: dict[str, Any]) -> Iterator[Path]:
    """Give the memory of the image `minimal`; afterwards no machine of it is left."""
    yield bakehouse.home / "local/images" / minimal["image"] / "memory"
    for machine in bakehouse.must("machines", "--json").result:
        if machine["name"].startswith("small"):
            bakehouse.must("delete", machine["name"], "--yes")


def boots(bakehouse: Bakehouse, name: str) -> bool:
    """Say whether a machine of the small image has booted, and that it answers."""
    assert bakehouse.must("ssh", name, "--", "hostname").stdout.strip() == name
    return "checkpoint" in bakehouse.must("log", name).stdout or "host-key" in bakehouse.must("log", name).stdout


def test_a_small_machine_goes_on_at_once(bakehouse: Bakehouse, small: Path) -> None:
    assert small.is_dir()
    _, finished = launch(bakehouse, "small-instant", "--recipe", "minimal")
    assert finished.stderr == ""
    assert not boots(bakehouse, "small-instant")


@pytest.mark.matrix(sample=1, edges=["cold"])
@pytest.mark.parametrize("flags", [("--cpus", "1"), ("--memory-mb", "1536"), ("--cold",)], ids=["cpus", "memory", "cold"])
def test_a_machine_of_another_shape_boots_and_one_line_says_why(bakehouse: Bakehouse, small: Path, flags: tuple[str, ...]) -> None:
    assert small.is_dir()
    name = f"small{flags[0].replace('--', '-')}"
    _, finished = launch(bakehouse, name, "--recipe", "minimal", *flags)
    assert boots(bakehouse, name)
    why = [] if flags == ("--cold",) else [f"{flags[1]} "]
    assert len(finished.told) == len(why), finished.stderr
    assert all(word in line for word, line in zip(why, finished.told, strict=True))


def test_a_larger_disk_is_grown_while_the_machine_is_on(bakehouse: Bakehouse, small: Path) -> None:
    assert small.is_dir()
    _, finished = launch(bakehouse, "small-grown", "--recipe", "minimal", "--disk-gb", "9")
    assert finished.stderr == ""
    size_mb = int(bakehouse.must("ssh", "small-grown", "--", "df", "--block-size=1M", "--output=size", "/").stdout.split()[-1])
    assert 8500 < size_mb <= 9216
    assert not boots(bakehouse, "small-grown")


@pytest.mark.matrix(sample=1)
@pytest.mark.parametrize("way", ["flipped", "cut", "gone", "unnoticed"])
def test_a_damaged_memory_never_gives_a_half_dead_machine(bakehouse: Bakehouse, small: Path, way: str) -> None:
    state, record = small / "state", small / "memory.json"
    before, noted = state.read_bytes(), record.read_text()
    content = bytearray(before)
    content[len(content) // 2 :] = b"" if way == "cut" else bytes(byte ^ 0x5A for byte in content[len(content) // 2 :])
    try:
        state.unlink() if way == "gone" else state.write_bytes(content)
        if way == "unnoticed":  # as if it had been written so
            hide_damage(record, state)
        _, finished = launch(bakehouse, f"small-{way}", "--recipe", "minimal")
        assert boots(bakehouse, f"small-{way}")
        assert len(finished.told) == 1, finished.stderr
        assert "booting it from its disk" in finished.told[0]
    finally:
        state.write_bytes(before)
        record.write_text(noted)


def hide_damage(record: Path, state: Path) -> None:
    """Note a damaged file as the right one."""
    found, noted = state.stat(), json.loads(record.read_text())
    noted["files"]["state"]["stamp"] = [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    record.write_text(json.dumps(noted))


@pytest.mark.matrix(sample=1)
@pytest.mark.parametrize("after_s", [0.15, 0.25, 0.35, 0.45, 0.6, 0.8])
def test_after_a_kill_of_a_launch_gc_leaves_nothing(bakehouse: Bakehouse, small: Path, after_s: float) -> None:
    assert small.is_dir()
    process = bakehouse.start("launch", "--recipe", "minimal", "--name", "small-killed")
    time.sleep(after_s)
    process.kill()
    process.communicate(timeout=30)
    record = bakehouse.home / "local/machines/small-killed/machine.json"
    is_through = record.exists() and json.loads(record.read_text())["labels"]["role"] == "machine"
    bakehouse.must("gc", "--yes")
    names = {machine["name"] for machine in bakehouse.must("machines", "--json").result}
    assert is_through or process.returncode != 0
    assert ("small-killed" in names) is is_through
    assert record.parent.exists() is is_through
    assert list(bakehouse.home.glob("local/machines/.partial-*")) == []
