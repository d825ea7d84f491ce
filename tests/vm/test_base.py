"""The base and the local cloud's machines, as they really start: directly, and by their own firmware and boot loader."""

from __future__ import annotations

import base64
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from clouds import names
from clouds.driver import START, Base, BootSpec, Kind, Position
from clouds.lifecycle import is_running, settle, stop_machine
from clouds.local.driver import LocalCloud
from clouds.local.store import Store
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import OLDEST, TCG, parse_version, printed_version
from clouds.local.vm.probe import GUEST_S, find_kvm, run_guest
from clouds.local.vm.sockets import Agent, Orders
from clouds.waiter import until

pytestmark = pytest.mark.vm

BOOT_S = 60
LABELS = {"project": names.PROJECT, "role": "test", "of": "base"}
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
LOOK = """
say() { echo "$1=$2" >/dev/ttyS0; }
say cmdline "$(cat /proc/cmdline)"
say root "$(findmnt --noheadings --output SOURCE /)"
say state "$(systemctl is-system-running --wait)"
say failed "$(systemctl --failed --plain --no-legend | tr '\\n' ' ')"
say disk_mb "$(($(df --block-size=1M --output=size / | tail -1)))"
say memory_mb "$(($(grep MemTotal /proc/meminfo | tr -dc 0-9) / 1024))"
say cpus "$(nproc)"
say uv "$(uv --version)"
say python "$(python3 --version)"
say machine_id "$(cat /etc/machine-id)"
say host_keys "$(echo /etc/ssh/ssh_host_*)"
say sources "$(grep --recursive --no-filename --only-matching 'http[^ ]*' /etc/apt | sort --unique | tr '\\n' ' ')"
say apt "$(apt-config dump | grep --count bakehouse/build)"
say build "$(ls /run/bakehouse/build 2>/dev/null | tr '\\n' ' ')"
say dns "$(grep --count nameserver /etc/resolv.conf)"
say fact "$(. /run/bakehouse/facts && echo "$MACHINE")"
say boots "$(($(cat /root/boots 2>/dev/null) + 1))"
echo $(($(cat /root/boots 2>/dev/null) + 1)) >/root/boots
say looked yes
"""

NEW_KERNEL_AND_REBOOT = """
if [ "$(cat /root/boots)" = 1 ]; then
    sed --in-place 's/quiet/quiet again=1/' /etc/kernel/cmdline
    /etc/kernel/postinst.d/zzz-bakehouse
    reboot
fi
"""


@pytest.fixture(scope="module")
def cloud(vm_home: Path) -> Iterator[LocalCloud]:
    """Give the local cloud of the test store, with a base."""
    made = LocalCloud(vm_home / "local")
    made.resolve_base(Base("trixie", "amd64"), tell=print)
    yield made
    assert [found.name for found in made.owned(LABELS)] == []


@pytest.fixture
def order(cloud: LocalCloud) -> Iterator[Callable[[str], BootSpec]]:
    """Give what orders machines from the base; they are removed afterwards."""
    with ordering(cloud) as new:
        yield new


@contextmanager
def ordering(cloud: LocalCloud) -> Iterator[Callable[[str], BootSpec]]:
    """Give what orders machines from the base; they are removed when the block ends."""
    ordered: list[BootSpec] = []

    def new(script: str) -> BootSpec:
        name = names.new_machine_name("base")
        spec = BootSpec(
            name=name,
            token=names.new_nonce(),
            source=cloud.resolve_base(Base("trixie", "amd64")).id,
            cpus=2,
            memory_mb=1024,
            disk_gb=6,
            labels={**LABELS, "name": name},
            deadline_s=int(20 * BOOT_S * cloud.slowness),
            script=script,
            facts={"MACHINE": name},
            ports=(22,),
        )
        ordered.append(spec)
        return spec

    try:
        yield new
    finally:
        for spec in ordered:
            settle(cloud, cloud.delete(Kind.MACHINE, spec.name))


@pytest.fixture(scope="module")
def rebooted(cloud: LocalCloud) -> Iterator[tuple[BootSpec, str]]:
    """Give a machine that has booted, has installed a kernel and has rebooted; and its console."""
    with ordering(cloud) as new:
        spec = new(f"{LOOK}\n{NEW_KERNEL_AND_REBOOT}")
        settle(cloud, cloud.boot(spec))
        await_text(cloud, spec.name, "looked=yes")
        yield spec, await_text(cloud, spec.name, "boots=2[^\0]*looked=yes")


@pytest.fixture(scope="module")
def builder(cloud: LocalCloud) -> Iterator[tuple[BootSpec, dict[str, str]]]:
    """Give a machine that has the settings of this computer, as builders do, and waits for orders; and what it says of itself."""
    with ordering(cloud) as new:
        spec = replace(new(f"{LOOK}\nexit 75\n"), build_settings=True)  # 75: it waits for an order
        settle(cloud, cloud.boot(spec))
        yield spec, said(await_text(cloud, spec.name, "looked=yes"))


def await_text(cloud: LocalCloud, machine: str, pattern: str, *, since: Position = START) -> str:
    """Wait until the console shows a pattern; return all that it shows."""

    def probe() -> str:
        alive = is_running(cloud, machine)
        text = cloud.console(machine, since).text.replace("\r", "")
        if re.search(pattern, text):
            return text
        assert alive, text[-2000:]
        return ""

    return until(probe, what=pattern, timeout_s=BOOT_S * cloud.slowness, poll_s=0.3)


def said(text: str) -> dict[str, str]:
    """Return what a guest said of itself, the last of each kind."""
    return dict(re.findall(r"^([a-z_]+)=(.*)$", text, re.MULTILINE))


# The base


def test_base_starts_and_holds_what_it_should(rebooted: tuple[BootSpec, str]) -> None:
    spec, text = rebooted
    found = said(text.partition("looked=yes")[0])
    assert found["boots"] == "1"
    assert (found["state"], found["failed"]) == ("running", "")
    assert found["root"] == "/dev/vda2"
    assert int(found["cpus"]) == 2
    assert 850 < int(found["memory_mb"]) <= 1024
    assert 5500 < int(found["disk_mb"]) <= 6 * 1024
    assert found["uv"].startswith("uv ")
    assert found["python"].startswith("Python 3.")
    assert re.fullmatch("[0-9a-f]{32}", found["machine_id"])
    assert found["host_keys"] == "/etc/ssh/ssh_host_*"
    assert found["dns"] == "1"
    assert found["fact"] == spec.name
    assert (found["build"], found["apt"]) == ("", "0")


def test_settings_of_the_host_lie_in_memory_only(builder: tuple[BootSpec, dict[str, str]]) -> None:
    found = builder[1]
    assert {"apt.conf", "env", "mirrors.sed"} <= set(found["build"].split())
    assert found["apt"] == "0"
    assert all("/debian" in url for url in found["sources"].split())


def test_machine_survives_a_reboot_and_a_stop_and_starts_the_kernel_it_installed(
    cloud: LocalCloud, rebooted: tuple[BootSpec, str]
) -> None:
    spec, text = rebooted
    assert "again=1" not in said(text)["cmdline"]
    stop_machine(cloud, spec.name)
    end = cloud.console(spec.name).position
    settle(cloud, cloud.start(spec.name, deadline_s=spec.deadline_s, facts={"MACHINE": "renamed"}))
    found = said(await_text(cloud, spec.name, "looked=yes", since=end))
    assert found["boots"] == "3"
    assert "again=1" in found["cmdline"]
    assert found["fact"] == "renamed"


@pytest.mark.matrix(sample=0, edges=["virtio-blk-pci"])
@pytest.mark.parametrize("device", ["nvme,serial=root", "virtio-blk-pci"])
def test_disk_starts_by_itself_with_firmware_and_boot_loader(cloud: LocalCloud, tmp_path: Path, device: str, vm_home: Path) -> None:
    base = Store(vm_home / "local").source(cloud.resolve_base(Base("trixie", "amd64")).id)
    (tmp_path / "script").write_text("echo started=yes >/dev/ttyS0; poweroff -ff\n")
    overlay = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(base / qemu.DISK), str(tmp_path / "disk")]
    machine = [
        "-nodefaults",
        "-display",
        "none",
        "-machine",
        "q35",
        *cloud.accelerator.arguments,
        "-smp",
        "1",
        "-m",
        "1024",
        "-no-reboot",
    ]
    argv = [
        *("timeout", str(2 * BOOT_S * cloud.slowness), qemu.PROGRAM, *machine),
        *("-drive", f"if=pflash,format=raw,readonly=on,file={FIRMWARE}", "-serial", f"file:{tmp_path / 'console'}"),
        *("-drive", f"if=none,id=root,format=qcow2,cache=unsafe,file={tmp_path / 'disk'}", "-device", f"{device},drive=root"),
        *("-fw_cfg", f"name=opt/bakehouse/script,file={tmp_path / 'script'}", "-nic", "user,model=virtio-net-pci"),
    ]
    subprocess.run(overlay, check=True)
    subprocess.run(argv, check=False)
    assert "started=yes" in (tmp_path / "console").read_text(errors="replace")


# What outlives whom


def test_watchdog_ends_a_machine_whose_client_is_gone(cloud: LocalCloud, order: Callable[[str], BootSpec]) -> None:
    spec = replace(order("sleep infinity"), deadline_s=12)
    settle(cloud, cloud.boot(spec))
    assert is_running(cloud, spec.name)
    until(lambda: not is_running(cloud, spec.name), what="end of the machine", timeout_s=60)


@pytest.mark.matrix(sample=4)
@pytest.mark.parametrize("delay_ms", range(0, 200, 10))
def test_client_killed_at_any_moment_leaves_what_is_listed_and_can_be_removed(
    cloud: LocalCloud, order: Callable[[str], BootSpec], vm_home: Path, delay_ms: int
) -> None:
    spec = order("sleep infinity")
    code = f"""
import sys
from pathlib import Path
from clouds.driver import BootSpec
from clouds.local.driver import LocalCloud
spec = {spec!r}
sys.stdout.write("ready\\n"); sys.stdout.flush()
LocalCloud(Path({str(vm_home / "local")!r})).boot(spec)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as client:
        assert client.stdout
        client.stdout.readline()
        time.sleep(delay_ms / 1000)
        client.kill()
    listed = cloud.owned({"name": spec.name})
    assert all(found.name == spec.name for found in listed)
    folder = vm_home / "local/machines" / spec.name
    assert bool(listed) == folder.exists()
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))
    assert cloud.owned({"name": spec.name}) == []
    until_gone(spec.name)  # soon: a QEMU may only just have been started


def test_machine_whose_port_is_taken_meanwhile_gets_another(cloud: LocalCloud, order: Callable[[str], BootSpec]) -> None:
    spec = order("sleep infinity")
    settle(cloud, cloud.boot(spec))
    before = cloud.address(spec.name, 22)
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # the connections that the machine had may linger
        taken.bind((before.host, before.port))
        taken.listen()
        settle(cloud, cloud.boot(spec))
        assert cloud.address(spec.name, 22) != before
        assert is_running(cloud, spec.name)


def test_clock_that_stood_still_is_set_by_the_host_s(cloud: LocalCloud, rebooted: tuple[BootSpec, str], vm_home: Path) -> None:
    name = rebooted[0].name
    seen = cloud.console(name).position
    with Agent(vm_home / "local/machines" / name, timeout_s=60) as agent:
        agent.execute("date", "--set", f"@{time.time() - 3600:.0f}")
    await_text(cloud, name, r"clock: differed from the host's by 3[56]\d\d s; set", since=seen)
    with Agent(vm_home / "local/machines" / name, timeout_s=60) as agent:
        agent.execute("sh", "-c", f"test $(date +%s) -ge {time.time() - 10:.0f}")


def test_owner_gets_a_shell_in_a_builder(cloud: LocalCloud, rebooted: tuple[BootSpec, str], tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    spec = rebooted[0]
    way = cloud.open_shell(spec.name, key.with_suffix(".pub").read_text().strip())
    assert way == cloud.open_shell(spec.name, key.with_suffix(".pub").read_text().strip())
    options = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "BatchMode=yes"]
    argv = ["ssh", *options, "-i", str(key), "-p", str(way.port), f"root@{way.host}", "id --user; ls /root/.ssh 2>&1 | wc --lines"]
    assert subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout.split()[0] == "0"


def test_an_order_arrives_whole_right_behind_hosts_that_hung_up(builder: tuple[BootSpec, dict[str, str]], vm_home: Path) -> None:
    folder = vm_home / "local/machines" / builder[0].name
    with Orders(folder, timeout_s=60) as orders:
        assert orders.is_waiting()
    for number in range(20):
        with suppress(OSError), Orders(folder, timeout_s=0.01) as orders:
            orders.is_waiting()
        script = f"echo {number} >>/root/orders\nexit 75\n" + "# a long comment\n" * 20_000
        seed = base64.b64encode(secrets.token_bytes(64)).decode()
        with Orders(folder, timeout_s=60) as orders:
            orders.send({"clock": time.time(), "seed": seed, "facts": None, "script": script, "build": None, "grow": False})


def test_deleting_leaves_no_process_no_file_and_no_port(cloud: LocalCloud, order: Callable[[str], BootSpec], vm_home: Path) -> None:
    spec = order("sleep infinity")
    settle(cloud, cloud.boot(spec))
    port = cloud.address(spec.name, 22).port
    settle(cloud, cloud.delete(Kind.MACHINE, spec.name))
    assert processes_of(spec.name) == []
    assert not [path for path in (vm_home / "local/machines").iterdir() if spec.name in path.name]
    assert qemu.free_ports([port]) == [port]


# The accelerator


def test_installed_qemu_is_new_enough() -> None:
    version = parse_version(printed_version())
    assert version
    assert version >= OLDEST


def test_probe_sees_a_guest_where_one_runs() -> None:
    ran = run_guest(TCG, timeout_s=60)
    assert ran.is_alive, ran.words


def test_probe_that_gives_up_says_so_and_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ran = run_guest(TCG, timeout_s=0.001)
    assert (ran.is_alive, ran.timed_out) == (False, True)
    assert list(tmp_path.iterdir()) == []


def test_probe_of_kvm_answers_and_says_why_not() -> None:
    started = time.monotonic()
    found = find_kvm()
    assert time.monotonic() - started < 3 * GUEST_S
    assert (found.accelerator is TCG) == bool(found.reason) == bool(found.fix)


def until_gone(word: str) -> None:
    """Wait until no QEMU process has a word in its command line."""
    until(lambda: not processes_of(word), what=f"the end of {word}", timeout_s=10)


def processes_of(word: str) -> list[str]:
    """Return the QEMU processes whose command line holds a word."""
    lines = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line for line in lines if qemu.PROGRAM in line and re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", line)]
