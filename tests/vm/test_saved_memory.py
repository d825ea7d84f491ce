"""What can and what cannot be restored from the saved memory of an image (`minimal`: a boot takes seconds)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clouds.waiter import until
from tests.vm.bakehouse import Bakehouse, Finished

pytestmark = pytest.mark.vm


def launch(bakehouse: Bakehouse, name: str, *flags: str) -> Finished:
    """Launch a machine of `minimal`; return how the command ended."""
    return bakehouse.must("launch", "--recipe", "minimal", "--name", name, *flags, "--json")


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
    finished = launch(bakehouse, "small-instant")
    assert finished.told == []
    assert not boots(bakehouse, "small-instant")


@pytest.mark.matrix(sample=1, edges=[])
@pytest.mark.parametrize(
    "flags",
    [("--cpus", "1"), ("--memory-mb", "1536"), ("--cold", "--cpus", "1", "--memory-mb", "1536", "--disk-gb", "9")],
    ids=["cpus", "memory", "cold"],
)
def test_a_machine_of_another_shape_boots_and_one_line_says_why(bakehouse: Bakehouse, small: Path, flags: tuple[str, ...]) -> None:
    assert small.is_dir()
    name = f"small{flags[0].replace('--', '-')}"
    finished = launch(bakehouse, name, *flags)
    assert boots(bakehouse, name)
    why = [] if "--cold" in flags else [f"{flags[1]} "]
    assert len(finished.told) == len(why), finished.stderr
    assert all(word in line for word, line in zip(why, finished.told, strict=True))
    check_shape(bakehouse, name, flags)


def check_shape(bakehouse: Bakehouse, name: str, flags: tuple[str, ...]) -> None:
    """Check that a machine has the processors, memory and disk that its launch has asked for."""
    look = "nproc; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo; df --block-size=1M --output=size / | tail -1"
    cpus, memory_mb, disk_mb = map(int, bakehouse.must("ssh", name, "--", "sh", "-c", look).stdout.split())
    assert cpus == 1 or "--cpus" not in flags
    assert 1300 < memory_mb <= 1536 or "--memory-mb" not in flags
    assert 8500 < disk_mb <= 9216 or "--disk-gb" not in flags


@pytest.mark.long
def test_a_machine_that_was_restored_survives_a_reboot(bakehouse: Bakehouse, small: Path) -> None:
    assert small.is_dir()
    launch(bakehouse, "small-rebooted")
    read = ("ssh", "small-rebooted", "--", "cat", "/proc/sys/kernel/random/boot_id")
    before = bakehouse.must(*read).stdout
    bakehouse.run("ssh", "small-rebooted", "--", "sudo", "reboot")
    until(lambda: bakehouse.run(*read).stdout not in ("", before), what="the reboot", timeout_s=600, poll_s=0.5)
    assert boots(bakehouse, "small-rebooted")
    journal = ("sudo", "journalctl", "--boot", "--quiet", "--identifier=systemd", "--output=cat")
    assert "ordering cycle" not in bakehouse.must("ssh", "small-rebooted", "--", *journal).stdout


def test_a_larger_disk_is_grown_while_the_machine_is_on(bakehouse: Bakehouse, small: Path) -> None:
    assert small.is_dir()
    finished = launch(bakehouse, "small-grown", "--disk-gb", "9")
    assert finished.told == []
    size_mb = int(bakehouse.must("ssh", "small-grown", "--", "df", "--block-size=1M", "--output=size", "/").stdout.split()[-1])
    assert 8500 < size_mb <= 9216
    assert not boots(bakehouse, "small-grown")


@pytest.mark.matrix(sample=1, edges=[])
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
        finished = launch(bakehouse, f"small-{way}")
        assert boots(bakehouse, f"small-{way}")
        assert len(finished.told) == 1, finished.stderr
        assert "booting it from disk" in finished.told[0]
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
