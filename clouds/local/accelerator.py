"""Which accelerator virtual machines really run on here: found out by running one, since /dev/kvm alone promises nothing.

On some nested hosts a guest hangs on KVM without a word, or QEMU aborts; such a host has to do without.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clouds.errors import UsageError
from clouds.local import files
from clouds.local.host import which

VARIABLE = "BAKEHOUSE_ACCELERATOR"
_PROBE_S = 3
_SIGN = b"alive"
_DISK_BYTES = 2**20  # the BIOS does not start from a disk of a single sector
_PROBE = ("-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35", "-m", "64", "-smp", "2", "-serial", "stdio")


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A way to run guests: QEMU's arguments and what the guest's kernel is told, and how many times slower than real hardware."""

    name: str
    slowness: float
    arguments: tuple[str, ...]
    cmdline: str = ""


KVM = Accelerator("kvm", 1.0, ("-accel", "kvm", "-cpu", "host"))
# 5-level page tables cost a tenth of a boot; nested virtualization makes the guest load drivers for nothing; without it
# the sizes of the caches would be out of reach, for which OpenBLAS warns in every notebook, hence xlevel.
# With ERMS the kernel and libc copy and clear memory byte by byte (`rep movsb`, `rep stosb`), each of which is emulated.
# When the kernel's watchdog finds the time stamp counter unstable, as it does on a busy computer, the kernel patches its
# own running code; before QEMU 8.1 a virtual CPU may go on with half-patched code, and panics (`int3`, `double fault`).
# Mitigations against speculation cost time and mean nothing to translated code.
TCG = Accelerator(
    "tcg",
    8.0,
    ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off,svm=off,erms=off,xlevel=0x8000001d"),
    cmdline="tsc=reliable mitigations=off",
)
_BY_NAME = {accelerator.name: accelerator for accelerator in (KVM, TCG)}


def accelerator(cache: Path, *, probe: Callable[[], bool] | None = None) -> Accelerator:
    """Return the one to use; the answer is kept in `cache` for this boot, this kernel and this QEMU."""
    if chosen := os.environ.get(VARIABLE):
        if chosen not in _BY_NAME:
            raise UsageError(
                f"{VARIABLE}={chosen}: not an accelerator", next_step=f"Set it to {' or '.join(_BY_NAME)}, or not at all."
            )
        return _BY_NAME[chosen]
    if which("qemu-system-x86_64") is None:
        return TCG  # nothing to keep: it is installed when it is first needed
    host = _host()
    kept = files.read_json(cache)
    if kept and kept.get("host") == host and kept.get("accelerator") in _BY_NAME:
        return _BY_NAME[kept["accelerator"]]
    found = KVM if (probe or kvm_works)() else TCG
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_json(cache, {"host": host, "accelerator": found.name})
    return found


def kvm_works() -> bool:
    """Say whether guests really run on KVM here."""
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and runs_guests(KVM)


def runs_guests(found: Accelerator) -> bool:
    """Run a guest of one disk sector on an accelerator and say whether it spoke within seconds."""
    qemu = which("qemu-system-x86_64")
    if qemu is None:
        return False
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        disk = Path(folder) / "disk"
        disk.write_bytes(boot_sector(_SIGN).ljust(_DISK_BYTES, b"\0"))
        return _speaks([qemu, *_PROBE, *found.arguments, "-drive", f"file={disk},format=raw,if=virtio,readonly=on"])


def boot_sector(sign: bytes) -> bytes:
    """Return a disk sector whose program writes a sign to the first serial port and halts."""
    program = bytes.fromhex("fa31c08ed8be1a7cbaf803ac84c07403eeebf8f4ebfd").ljust(0x1A, b"\x90") + sign + b"\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"


def _speaks(argv: list[str]) -> bool:
    """Say whether the guest writes its sign within seconds; it is killed either way."""
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout
    said, deadline = b"", time.monotonic() + _PROBE_S
    try:
        while _SIGN not in said and (left_s := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([process.stdout], [], [], left_s)
            piece = os.read(process.stdout.fileno(), 4096) if ready else b""
            if not piece:
                break
            said += piece
    finally:
        process.kill()
        process.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_PROBE_S)
    return _SIGN in said


def _host() -> str:
    """Return what the answer depends on; the boot's id stands for modules and their parameters."""
    qemu = Path(which("qemu-system-x86_64") or "/nonexistent")
    stamp = f"{qemu.stat().st_mtime_ns} {qemu.stat().st_size}" if qemu.exists() else "none"
    boot = Path("/proc/sys/kernel/random/boot_id")
    device = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return f"{platform.release()} {boot.read_text(encoding='ascii').strip() if boot.exists() else ''} {stamp} {device}"
