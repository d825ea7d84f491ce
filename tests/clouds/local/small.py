"""Small stand-ins for what takes long to make: a disk of a few KiB with boot files, a store with a base."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clouds.driver import BootSpec
from clouds.local.base import esp
from clouds.local.host import files
from clouds.local.host.programs import missing_packages
from clouds.local.store import Store
from clouds.local.vm import qemu
from clouds.waiter import until

BASE = "base-0123"
ENTRY = "title Bakehouse\nlinux /vmlinuz\noptions root=LABEL=bakehouse rw quiet\n"
needs_tools = pytest.mark.skipif(bool(missing_packages()), reason="the programs of the local cloud are not installed")


def make_disk(folder: Path, *, direct: bool) -> Path:
    """Make a disk whose ESP holds small stand-ins, and nothing else beside it."""
    content = folder / "esp"
    (content / "loader/entries").mkdir(parents=True)
    (content / "vmlinuz").write_text("kernel")
    (content / "initrd.img").write_text("initrd")
    (content / "loader/entries/bakehouse.conf").write_text(ENTRY)
    if direct:
        (content / "direct.img").write_text("one driver")
    raw, disk = folder / "disk.raw", folder / "disk.qcow2"
    with raw.open("wb") as file:
        file.truncate((esp.ROOT_START_MB + 1) * 2**20)
    esp.format_esp(raw, content)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, disk], check=True)
    raw.unlink()
    return disk


def make_store(folder: Path) -> Store:
    """Make a store with one base."""
    base = folder / "bases" / BASE
    base.mkdir(parents=True)
    esp.take_boot_files(make_disk(base, direct=True), base)
    files.write_json(base / "base.json", {"suite": "trixie", "definition": "d", "packages": [], "checked_at": 1.0})
    return Store(folder)


def order(name: str, source: str = BASE, *, token: str = "t", disk_gb: int = 1) -> BootSpec:
    """Order a machine."""
    return BootSpec(
        name=name,
        token=token,
        source=source,
        cpus=1,
        memory_mb=64,
        disk_gb=disk_gb,
        labels={"project": "bakehouse", "of": name},
        deadline_s=60,
        facts={"MACHINE": name},
        ports=(22,),
    )


@contextmanager
def so_called_qemu(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in a machine's folder that calls itself QEMU, and does nothing."""
    with subprocess.Popen([qemu.PROGRAM, "60"], executable="/bin/sleep", cwd=folder) as process:
        try:
            until(lambda: qemu.processes(folder), what="process", timeout_s=10, poll_s=0.01)
            yield process
        finally:
            process.kill()
