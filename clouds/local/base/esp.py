"""The EFI system partition (ESP) of our disks: it holds the kernel, so that firmware and direct kernel boot use the same one."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from clouds.errors import CloudError
from clouds.local.host.command import run

DISK_MB = 2304
ESP_START_MB = 1
ESP_MB = 128
ROOT_START_MB = ESP_START_MB + ESP_MB
ROOT_LABEL = "bakehouse"
"""Layout: ESP, then the root filesystem, then 1 MiB for the backup partition table."""

BOOT_FILES = ("vmlinuz", "cmdline", "initrd")
"""The files beside each disk for direct kernel boot."""

_MIB = 2**20
_COPY_S = 300


def format_esp(raw: Path, content: Path) -> None:
    """Format the ESP inside a raw disk and copy the content of a folder into it."""
    target = f"{raw}@@{ESP_START_MB}M"
    run(["mformat", "-i", target, "-F", "-v", "ESP", "-T", str(ESP_MB * 2048), "::"], timeout_s=_COPY_S)
    entries = sorted(str(path) for path in content.iterdir())
    run(["mcopy", "-s", "-Q", "-i", target, *entries, "::/"], timeout_s=_COPY_S)


def take_boot_files(disk: Path, folder: Path) -> None:
    """Extract the files for direct kernel boot from a disk's ESP: vmlinuz, cmdline and the smallest initrd."""
    esp = folder / "esp.raw"
    for name in BOOT_FILES:
        (folder / name).unlink(missing_ok=True)
    try:
        run(["qemu-img", "convert", "-O", "raw", partition(disk, ESP_START_MB, ESP_MB), str(esp)], timeout_s=_COPY_S)
        names = set(run(["mdir", "-b", "-i", str(esp), "::/"], timeout_s=_COPY_S).replace("::/", "").split())
        _extract(esp, "vmlinuz", folder / "vmlinuz")
        _extract(esp, "loader/entries/bakehouse.conf", folder / "cmdline")
        _extract(esp, "direct.img" if "direct.img" in names else "initrd.img", folder / "initrd")
    finally:
        esp.unlink(missing_ok=True)
    entry = (folder / "cmdline").read_text(encoding="utf-8")
    (folder / "cmdline").write_text(_options(entry) + "\n", encoding="utf-8")


def boot_arguments(folder: Path) -> dict[str, str]:
    """Return the boot files of a folder for `qemu.arguments`, with names relative to it."""
    return {"vmlinuz": "vmlinuz", "initrd": "initrd", "cmdline": (folder / "cmdline").read_text(encoding="utf-8").strip()}


def link_boot_files(source: Path, folder: Path) -> None:
    """Hard-link the boot files of one disk into the folder of another."""
    for name in BOOT_FILES:
        os.link(source / name, folder / name)


def partition(disk: Path, start_mb: int, size_mb: int = 0) -> str:
    """Return qemu-img's name for a part of a qcow2 disk (to its end if no size is given)."""
    part = {
        "driver": "raw",
        "offset": start_mb * _MIB,
        "file": {"driver": "qcow2", "file": {"driver": "file", "filename": str(disk)}},
    }
    return "json:" + json.dumps(part | ({"size": size_mb * _MIB} if size_mb else {}))


def _options(entry: str) -> str:
    """Return the kernel command line from a boot loader entry."""
    match = re.search(r"^options (.+)$", entry, re.MULTILINE)
    if not match:
        raise CloudError(
            "the boot loader entry on the disk has no options", next_step="Do not change /etc/kernel/cmdline in the image."
        )
    return match[1]


def _extract(esp: Path, name: str, target: Path) -> None:
    run(["mcopy", "-n", "-o", "-i", str(esp), f"::/{name}", str(target)], timeout_s=_COPY_S)
