"""Run a guest of one disk sector, with the devices that our machines have, to see whether an accelerator works here.

What QEMU prints when KVM does not work: accel/kvm/kvm-all.c and target/i386/kvm/kvm.c of QEMU 7.2 and 11.0.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from clouds.errors import TimedOutError
from clouds.local.host.command import environment
from clouds.local.host.computer import KERNEL, is_wsl
from clouds.local.host.files import read_text
from clouds.local.host.programs import which
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import KVM, KVM_NESTED, TCG, Accelerator, Choice
from clouds.waiter import until

DEVICE = Path("/dev/kvm")
GUEST_S = 15
"""How long the guest may take to write its sign: a fraction of a second, and on a cold disk or a busy computer seconds."""
_SIGN = b"alive"
_DISK_BYTES = 2**20  # the BIOS does not start from a disk of a single sector
_MEMORY_MB = 64
_POLL_S = 0.02
# On by default, Windows 11 on x86-64 only; on Windows 10 it is overridden without a word, on Arm it has no effect.
# https://learn.microsoft.com/windows/wsl/wsl-config, https://github.com/microsoft/WSL/issues/40735, .../issues/13796
_WSL = (
    "On Windows 11 write nestedVirtualization=true below [wsl2] in %UserProfile%\\.wslconfig, then run in Windows: wsl --shutdown "
    "(Windows 10 cannot)."
)
_ABORTS = ("failed to set MSR", "kvm_msr_buf->nmsrs")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a guest ran: whether it wrote its sign, else QEMU's words, and whether time ran out."""

    is_alive: bool
    words: str = ""
    timed_out: bool = False


def find_kvm(
    device: Path = DEVICE,
    cpuinfo: Path = Path("/proc/cpuinfo"),
    run: Callable[[Accelerator], Ran] | None = None,
    *,
    kernel: Path = KERNEL,
) -> Choice:
    """Return KVM, in the form that works here, or emulation with the reason why KVM does not work and what to do."""
    if not device.exists():
        return Choice(TCG, *_absent(read_text(cpuinfo), is_wsl=is_wsl(read_text(kernel))))
    if not os.access(device, os.R_OK | os.W_OK):
        return _not_permitted(is_wsl=is_wsl(read_text(kernel)))
    ran = Ran(False)
    for accelerator in (KVM, KVM_NESTED):
        ran = (run or run_guest)(accelerator)
        if ran.is_alive:
            return Choice(accelerator)
        if not any(words in ran.words for words in _ABORTS):
            break
    return _failure(ran)


def _absent(cpuinfo: str, *, is_wsl: bool) -> tuple[str, str]:
    """Return why there is no /dev/kvm, by the flags of the processor, and what to do."""
    flags = {flag for line in cpuinfo.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    for flag, module in {"vmx": "kvm_intel", "svm": "kvm_amd"}.items():
        if flag in flags:
            return "/dev/kvm not found", f"Run: sudo modprobe {module} (in a container: start it with --device /dev/kvm)"
    if is_wsl:
        return "/dev/kvm not found in WSL", _WSL
    if "hypervisor" in flags:
        return "/dev/kvm not found in this virtual machine", "Turn on nested virtualization where the machine is managed."
    return "/dev/kvm not found", "Turn on virtualization (Intel VT-x or AMD-V) in the computer's firmware (BIOS)."


def _not_permitted(*, is_wsl: bool = False) -> Choice:
    # A session of WSL has no log-out that counts: https://iii.dev/docs/troubleshooting
    then = "run in Windows: wsl --shutdown" if is_wsl else "log out and in again"
    return Choice(TCG, "you may not open /dev/kvm", f"Run: sudo adduser {_user()} kvm; then {then}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return "$USER"


def _failure(ran: Ran) -> Choice:
    """Return emulation, and why no guest ran on a KVM that is there."""
    lines = ran.words.strip().splitlines() or ["it ended without a word"]
    told = next((line for line in lines if "error:" in line), lines[-1]).removeprefix(f"{qemu.PROGRAM}: ").removeprefix("error: ")
    if ran.timed_out:
        return Choice(TCG, f"a guest on KVM did not start within {GUEST_S} s", "It is tried again in 10 minutes.", is_final=False)
    if "Device or resource busy" in ran.words:
        step = "Close VirtualBox or VMware; KVM is tried again in 10 minutes."
        return Choice(TCG, "another program uses the processor's virtualization", step, is_final=False)
    if "Permission denied" in ran.words:
        return _not_permitted()
    return Choice(TCG, f"QEMU does not run on KVM: {told}", "docs/hosts.md has more about KVM.")


def run_guest(accelerator: Accelerator, *, timeout_s: float = GUEST_S) -> Ran:
    """Run the guest, and end it."""
    program = which(qemu.PROGRAM)
    if program is None:
        return Ran(False, "QEMU is not installed")
    with TemporaryDirectory() as folder:
        scratch = Path(folder)
        (scratch / "disk").write_bytes(boot_sector(_SIGN).ljust(_DISK_BYTES, b"\0"))
        argv = [
            *(program, "-nodefaults", "-no-user-config", "-display", "none", *accelerator.arguments, "-smp", "2"),
            *("-m", str(_MEMORY_MB), "-object", f"memory-backend-ram,id=ram,size={_MEMORY_MB}M"),
            *("-drive", f"if=none,id={qemu.DRIVE},file=disk,format=raw,readonly=on", *qemu.devices()),
        ]
        return _watch(argv, scratch, timeout_s)


def boot_sector(sign: bytes) -> bytes:
    """Return a disk sector whose program writes a sign to the first serial port and halts."""
    program = bytes.fromhex("fa31c08ed8be1a7cbaf803ac84c07403eeebf8f4ebfd").ljust(0x1A, b"\x90") + sign + b"\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"


def _watch(argv: list[str], folder: Path, timeout_s: float) -> Ran:
    console, log = folder / qemu.CONSOLE, folder / "qemu.log"
    with log.open("wb") as words:
        process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment())

    def is_alive() -> bool:
        return console.exists() and _SIGN in console.read_bytes()

    timed_out = False
    try:
        until(lambda: is_alive() or process.poll() is not None, what="guest", timeout_s=timeout_s, poll_s=_POLL_S)
    except TimedOutError:
        timed_out = True
    finally:
        process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=GUEST_S)
    return Ran(is_alive(), log.read_text(encoding="utf-8", errors="replace"), timed_out)
