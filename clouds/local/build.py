"""Build a base: Debian by mmdebstrap, then one disk with an EFI system partition and a root filesystem.

No step needs root where the host lets users have namespaces; in a bare chroot, which does not, root does it directly.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clouds.driver import Tell
from clouds.errors import CloudError, DeniedError
from clouds.home import write_private
from clouds.local.command import environment, failure, free_bytes, full_disk, run
from clouds.local.definition import Definition
from clouds.local.esp import DISK_MB, ESP_MB, ESP_START_MB, ROOT_LABEL, ROOT_START_MB, format_esp, take_boot_files
from clouds.local.mirrors import apt_conf, sources_list
from clouds.local.settings import host_settings

_BUILD_S = 3600
_DISK_S = 600
_NEEDED_BYTES = 2 * 2**30
_NAMESPACE = ("unshare", "--map-auto", "--map-root-user", "--mount")
_FILESYSTEM = "lazy_itable_init=1,lazy_journal_init=1"


@dataclass(frozen=True, slots=True)
class Built:
    """What came out besides the files in the folder: one line `name version` per package, sorted."""

    packages: str


def build(definition: Definition, scratch: Path, tell: Tell) -> Built:
    """Build a base in an empty folder: disk.qcow2 and the files for a direct start (see `esp`)."""
    if free_bytes(scratch) < _NEEDED_BYTES:
        raise full_disk(scratch, "building a base", _NEEDED_BYTES)
    if not is_root():
        _check_namespaces()
    started = time.monotonic()

    def say(what: str) -> None:
        tell(f"base: {what} ({time.monotonic() - started:.0f} s)")

    say(f"building Debian {definition.base.suite}")
    _debootstrap(definition, scratch, say)
    say("making the disk")
    raw, disk = scratch / "disk.raw", scratch / "disk.qcow2"
    _partition(raw)
    _fill_root(scratch, raw)
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


def _debootstrap(definition: Definition, scratch: Path, say: Tell) -> None:
    """Install Debian: as root into the folder `tree`, else into `tree.tar` (the owners of its files are not ours)."""
    settings = host_settings()
    suite = definition.base.suite
    inputs = {"list": sources_list(settings.mirrors, suite), "apt": apt_conf(settings.apt)}
    for name, text in inputs.items():
        write_private(scratch / f"input.{name}", text)
    _pack(definition, scratch / "input.tar")
    target = "tree" if is_root() else "tree.tar"
    argv = _mmdebstrap(definition, scratch)
    _follow([*argv, suite, str(scratch / target), str(scratch / "input.list")], say)


def _mmdebstrap(definition: Definition, scratch: Path) -> list[str]:
    """Return the command without its operands. What it is given may hold credentials, and so lies in files."""
    quoted = shlex.quote(str(scratch))
    hooks = (
        f"tar-in {quoted}/input.tar /",
        f'chroot "$1" /customize {definition.base.suite}',
        f"copy-out /esp {quoted}",
        f"download /packages {quoted}/packages",
        'rm -r "$1/esp" "$1/packages" "$1/customize"',
    )
    return [
        "mmdebstrap",
        "--mode=root" if is_root() else "--mode=unshare",
        "--format=directory" if is_root() else "--format=tar",
        "--variant=apt",
        f"--architectures={definition.base.architecture}",
        f"--include={','.join(definition.packages)}",
        f"--dpkgopt={definition.templates / 'root/etc/dpkg/dpkg.cfg.d/bakehouse'}",
        f"--aptopt={definition.templates / 'root/etc/apt/apt.conf.d/50bakehouse'}",
        f"--aptopt={scratch / 'input.apt'}",
        *(f"--customize-hook={hook}" for hook in hooks),
    ]


def _pack(definition: Definition, target: Path) -> None:
    """Pack our own files for the tree, owned by root whoever we are and whatever our umask is."""
    with tarfile.open(target, "w") as tar:
        root = definition.templates / "root"
        names = {path: str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file()}
        for path, name in {**names, definition.templates / "customize": "customize", definition.uv: "usr/local/bin/uv"}.items():
            entry = tar.gettarinfo(path, name)
            entry.mode = 0o755 if entry.mode & 0o100 else 0o644
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            with path.open("rb") as file:
                tar.addfile(entry, file)


def _follow(argv: Sequence[str], say: Tell) -> None:
    """Run mmdebstrap to its end, telling what it does; should we die, it cleans up and ends as well."""
    guard = ["setpriv", "--pdeathsig", "TERM", "timeout", "--kill-after=30", str(_BUILD_S)]
    said: list[str] = []
    with subprocess.Popen(
        [*guard, *argv], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment()
    ) as process:
        try:
            for line in process.stderr or ():
                said.append(line)
                if line.startswith("I: ") and line.rstrip().endswith("..."):
                    say(line[3:].rstrip(" .\n"))
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise failure("mmdebstrap", "".join(line for line in said if line.startswith(("E: ", "Err:"))) or "".join(said))


def _partition(raw: Path) -> None:
    with raw.open("wb") as file:
        file.truncate(DISK_MB * 2**20)
    table = f"""label: gpt
start={ESP_START_MB}MiB, size={ESP_MB}MiB, type=uefi, name=esp
start={ROOT_START_MB}MiB, size={DISK_MB - ROOT_START_MB - 1}MiB, type=linux, name=root
"""
    run(["sfdisk", "--quiet", str(raw)], timeout_s=_DISK_S, stdin=table)


def _fill_root(scratch: Path, raw: Path) -> None:
    """Make the root filesystem inside the raw disk, with the tree of Debian that mmdebstrap left."""
    size_kb = (DISK_MB - ROOT_START_MB - 1) * 1024
    options = f"{_FILESYSTEM},offset={ROOT_START_MB * 2**20},root_owner=0:0"
    mke2fs = ["mke2fs", "-q", "-F", "-t", "ext4", "-L", ROOT_LABEL, "-m", "1", "-J", "size=32", "-E", options]
    operands = ["-d", str(scratch / "tree"), str(raw), f"{size_kb}k"]
    if is_root():
        run([*mke2fs, *operands], timeout_s=_DISK_S)
        shutil.rmtree(scratch / "tree")
        return
    # The tree lies in memory, in a namespace in which its owners can be told apart; it goes with the namespace.
    (scratch / "tree").mkdir()
    script = 'mount -t tmpfs tmpfs "$1" && tar --extract --file "$1.tar" --directory "$1" --exclude "./dev/*" && shift && exec "$@"'
    run([*_NAMESPACE, "sh", "-c", script, "sh", str(scratch / "tree"), *mke2fs, *operands], timeout_s=_DISK_S)
    (scratch / "tree").rmdir()
    (scratch / "tree.tar").unlink()


def _check_namespaces() -> None:
    try:
        run([*_NAMESPACE, "true"], timeout_s=_DISK_S)
    except CloudError as error:
        raise DeniedError(
            f"this user may not have namespaces of its own, in which a base is built ({error.message})",
            next_step="Give it a line in /etc/subuid and in /etc/subgid, allow unprivileged user namespaces, or bake as root.",
        ) from error


def is_root() -> bool:
    """Say whether we may do anything on this computer."""
    return os.geteuid() == 0
