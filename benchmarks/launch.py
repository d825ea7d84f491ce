"""Launch the same image from its memory, from its disk, and with QEMU started by hand, in turn; then ten at once.

    .venv/bin/python benchmarks/launch.py [--rounds 5] [--many 10]

Needs a baked `jupyter`. Seconds from the start of the command until Jupyter accepts the new password; no machine of ours runs
before a timed command. Prints Markdown: the medians and their ratios, then what many machines from one image take: seconds, the
memory that each has for itself (PSS, which divides shared pages among those who share them), and the disk.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from clouds.driver import BootSpec, Kind
from clouds.home import home
from clouds.local import connect
from clouds.local.base.esp import boot_arguments
from clouds.local.disk.overlays import make_overlay
from clouds.local.host import files
from clouds.local.vm import qemu
from clouds.local.vm.record import new_record
from clouds.waiter import until
from launcher.access.notebook import NOTEBOOK_PORT, answers, login
from launcher.access.password import generate, hash_password
from launcher.images import find_image

PROJECT = Path(__file__).parents[1]
PATIENCE_S = 300


def launch(*flags: str) -> float:
    """Launch a machine by the command, log in, delete it; return the seconds until the log-in."""
    began = time.monotonic()
    done = subprocess.run([str(PROJECT / "inv"), "launch", "--json", *flags], check=True, capture_output=True, text=True)
    machine = json.loads(done.stdout.splitlines()[-1])
    assert login(machine["url"], machine["password"])
    seconds = time.monotonic() - began
    delete(machine["name"])
    return seconds


def by_hand(image: str) -> float:
    """Start QEMU on an overlay of the image's disk as one would by hand, with the same hardware, and wait for the log-in."""
    cloud, source, password = connect(home()), home() / "local/images" / image, generate()
    labels = cloud.find(Kind.IMAGE, image).labels  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory(dir=home() / "local/machines", prefix=".partial-0-0-") as scratch:
        folder, (port,) = Path(scratch), qemu.free_ports([0])
        facts = {"MACHINE": "hand", "NONCE": "", "AUTHORIZED_KEY": "", "PASSWORD_HASH": hash_password(password), "EXPIRES": "0"}
        spec = BootSpec(
            name="hand", token="hand", source=image, cpus=int(labels["cpus"]), memory_mb=int(labels["memory-mb"]),  # noqa: S106
            disk_gb=int(labels["disk-gb"]), labels={}, deadline_s=0, facts=facts,
        )  # fmt: skip
        record = new_record(spec, created_at=0)
        record.forwards[str(NOTEBOOK_PORT)] = port
        (folder / "facts").write_text("".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()))
        began = time.monotonic()
        make_overlay(folder / qemu.DISK, source / qemu.DISK)
        for name in ("vmlinuz", "initrd", "cmdline"):
            os.link(source / name, folder / name)
        argv = [qemu.PROGRAM, *qemu.arguments(record, cloud.accelerator, boot_arguments(folder))]
        with subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            url = f"http://127.0.0.1:{port}/"
            until(lambda: answers(url, timeout_s=1), what="Jupyter", timeout_s=PATIENCE_S, poll_s=0.05)
            assert login(url, password)
            seconds = time.monotonic() - began
            process.kill()
    return seconds


def many(count: int, *, at_once: bool) -> list[str]:
    """Launch many machines, one after the other or all at once; return rows of Markdown with what they take."""
    began = time.monotonic()
    command = [str(PROJECT / "inv"), "launch", "--json"]
    machines = []
    if at_once:
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(count)]
        machines = [json.loads(process.communicate()[0].splitlines()[-1]) for process in running]
    else:
        for _ in range(count):
            machines.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]))
    seconds = time.monotonic() - began
    assert all(login(machine["url"], machine["password"], timeout_s=PATIENCE_S) for machine in machines)
    folders = [home() / "local/machines" / machine["name"] for machine in machines]
    pss_mb = [_pss_mb(folder) for folder in folders]
    disk_mb = [files.folder_bytes(folder) / 1e6 for folder in folders]
    launches = sorted(machine["seconds"] for machine in machines)
    for machine in machines:
        delete(machine["name"])
    how = "at once" if at_once else "one after the other"
    return [
        f"| {count} {how} | {seconds:.1f} s | {statistics.median(launches):.2f} s | {launches[-1]:.2f} s "
        f"| {statistics.median(pss_mb):.0f} MB | {statistics.median(disk_mb):.1f} MB |"
    ]


def delete(name: str) -> None:
    """Delete a machine."""
    subprocess.run([str(PROJECT / "inv"), "delete", name, "--yes"], check=True, capture_output=True)


def _pss_mb(folder: Path) -> float:
    found = 0
    for process in qemu.processes(folder):
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            found += int(line.split()[1]) if line.startswith("Pss:") else 0
    return found / 1024


def table(seconds: dict[str, list[float]], accelerator: str) -> str:
    """Return the medians and ratios as Markdown."""
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    fastest = medians["from its memory"]
    rows = [f"| launch ({accelerator}) | median | runs | times as long |", "|---|---|---|---|"]
    for name, runs in seconds.items():
        rows.append(
            f"| {name} | {medians[name]:.2f} s | {', '.join(f'{run:.2f}' for run in runs)} | {medians[name] / fastest:.1f} |"
        )
    return "\n".join(rows)


def main() -> None:
    """Run the rounds and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=10)
    given = parser.parse_args()
    cloud = connect(home())
    image = find_image(cloud, recipe="jupyter").name
    ways: dict[str, Callable[[], float]] = {
        "from its memory": launch,
        "from its disk (--cold)": lambda: launch("--cold"),
        "QEMU by hand": lambda: by_hand(image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, run in ways.items():
            seconds[name].append(run())
            print(f"{name}: {seconds[name][-1]:.2f} s", file=sys.stderr)
    print(table(seconds, cloud.accelerator.name))
    if given.many:
        print("\n| machines | all | median launch | slowest | memory of each (PSS) | disk of each |\n|---|---|---|---|---|---|")
        print("\n".join(many(given.many, at_once=False) + many(given.many, at_once=True)))


if __name__ == "__main__":
    main()
