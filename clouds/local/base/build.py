"""Build a base: Debian by mmdebstrap, then one disk with an EFI system partition and a root filesystem.

No step needs root if mmdebstrap may create user namespaces; root needs no namespace and builds in the scratch folder.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from clouds.driver import Tell
from clouds.local.base.bootstrap import bootstrap
from clouds.local.base.definition import Definition
from clouds.local.base.esp import DISK_MB, ESP_MB, ESP_START_MB, ROOT_START_MB, format_esp, take_boot_files
from clouds.local.base.host_environment import host_settings
from clouds.local.base.room import tree_folder
from clouds.local.base.rootfs import fill_from_folder, fill_from_tar
from clouds.local.host.command import free_bytes, full_disk, run
from clouds.local.host.namespaces import check_namespaces
from clouds.local.host.programs import is_root

_DISK_S = 600
_NEEDED_BYTES = 2 * 2**30
_SPARE_MB = 512
"""Free space in a disk with packages of a recipe, before a builder grows it."""


@dataclass(frozen=True, slots=True)
class Built:
    """The result besides the files in the folder: one line `name version` per package, sorted."""

    packages: str


def build(definition: Definition, scratch: Path, tell: Tell) -> Built:
    """Build a base in an empty folder: disk.qcow2 and the files for direct kernel boot (see `esp`)."""
    temporary = _prepare(scratch)
    started = time.monotonic()

    def say(what: str) -> None:
        tell(f"base: {what} ({time.monotonic() - started:.0f} s)")

    count = len(definition.base.packages)
    extra = f" with {count} package{'s' if count > 1 else ''} of the recipe" if count else ""
    say(f"building {definition.distribution.name} {definition.base.suite}{extra}")
    bootstrap(definition, scratch, temporary, host_settings(), say)
    say("making the disk")
    raw, disk = scratch / "disk.raw", scratch / "disk.qcow2"
    _partition(raw, disk_mb(_tree_bytes(scratch)) if definition.base.packages else DISK_MB)
    _fill_root(scratch, raw, temporary)
    format_esp(raw, scratch / "esp")
    run(["qemu-img", "convert", "-O", "qcow2", str(raw), str(disk)], timeout_s=_DISK_S)
    disk.chmod(0o444)
    take_boot_files(disk, scratch)
    packages = (scratch / "packages").read_text(encoding="utf-8")
    for path in (raw, scratch / "packages", *scratch.glob("input.*")):
        path.unlink()
    shutil.rmtree(scratch / "esp")
    say("built")
    return Built(packages)


def _prepare(scratch: Path) -> Path | None:
    """Check disk space and permissions before any download; return where to build the tree, None for the scratch folder."""
    if free_bytes(scratch) < _NEEDED_BYTES:
        raise full_disk(scratch, "building a base", _NEEDED_BYTES)
    if is_root():
        return None
    check_namespaces()
    return tree_folder(scratch, _NEEDED_BYTES)


def disk_mb(tree_bytes: int) -> int:
    """Return the size in MiB of a disk for a tree of any size: a quarter more, for half-full blocks and inodes, and spare room."""
    return max(DISK_MB, tree_bytes * 5 // 4 // 2**20 + _SPARE_MB)


def _tree_bytes(scratch: Path) -> int:
    tree = scratch / "tree"
    if not tree.is_dir():
        return (scratch / "tree.tar").stat().st_size
    return int(run(["du", "--summarize", "--bytes", str(tree)], timeout_s=_DISK_S).split()[0])


def _partition(raw: Path, size_mb: int) -> None:
    with raw.open("wb") as file:
        file.truncate(size_mb * 2**20)
    table = f"""label: gpt
start={ESP_START_MB}MiB, size={ESP_MB}MiB, type=uefi, name=esp
start={ROOT_START_MB}MiB, size={size_mb - ROOT_START_MB - 1}MiB, type=linux, name=root
"""
    run(["sfdisk", "--quiet", str(raw)], timeout_s=_DISK_S, stdin=table)


def _fill_root(scratch: Path, raw: Path, temporary: Path | None) -> None:
    """Create the root filesystem inside the raw disk from the Debian tree that mmdebstrap built."""
    if temporary is None:
        fill_from_folder(scratch / "tree", raw)
        shutil.rmtree(scratch / "tree")
    else:
        fill_from_tar(scratch / "tree.tar", raw, temporary)
        (scratch / "tree.tar").unlink()
