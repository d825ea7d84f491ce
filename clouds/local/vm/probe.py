"""Run a guest of one disk sector, with the devices of our machines, to find out whether an accelerator works here.

QEMU's messages when KVM does not work: accel/kvm/kvm-all.c and target/i386/kvm/kvm.c of QEMU 7.2 and 11.0.
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
from clouds.local.vm.accelerator import KVM, KVM_NESTED, TCG, UNKNOWN, Accelerator, Choice
from clouds.waiter import until

DEVICE = Path("/dev/kvm")
GUEST_S = 15
"""How long the guest may take to write its sign: usually a fraction of a second, on a cold disk or busy computer some seconds."""
_SIGN = b"alive"
_DISK_BYTES = 2**20  # the BIOS does not boot from a disk of a single sector
_MEMORY_MB = 64
_POLL_S = 0.02
# On by default, Windows 11 on x86-64 only; Windows 10 silently ignores it, on Arm it has no effect.
# https://learn.microsoft.com/windows/wsl/wsl-config, https://github.com/microsoft/WSL/issues/40735, .../issues/13796
_WSL = (
    "On Windows 11 add nestedVirtualization=true under [wsl2] in %UserProfile%\\.wslconfig, then run in Windows: wsl --shutdown "
    "(not supported by Windows 10)."
)
_ABORTS = ("failed to set MSR", "kvm_msr_buf->nmsrs")


@dataclass(frozen=True, slots=True)
class Ran:
    """The result of a guest: whether it wrote its sign, QEMU's output, and whether it timed out."""

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
    """Return KVM, in the variant that works here, or TCG with the reason why KVM does not work and the fix."""
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
    """Return (reason, fix) for a missing /dev/kvm, according to the processor flags."""
    flags = {flag for line in cpuinfo.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    for flag, module in {"vmx": "kvm_intel", "svm": "kvm_amd"}.items():
        if flag in flags:
            return "/dev/kvm not found", f"Run: sudo modprobe {module} (in a container: start it with --device /dev/kvm)"
    if is_wsl:
        return "/dev/kvm not found in WSL", _WSL
    if "hypervisor" in flags:
        return "/dev/kvm not found in this virtual machine", "Enable nested virtualization for this virtual machine on its host."
    return "/dev/kvm not found", "Enable virtualization (Intel VT-x or AMD-V) in the computer's firmware (BIOS)."


def _not_permitted(*, is_wsl: bool = False) -> Choice:
    # Logging out of a WSL session has no effect on groups: https://iii.dev/docs/troubleshooting
    then = "run in Windows: wsl --shutdown" if is_wsl else "log out and in again"
    return Choice(TCG, "no permission to open /dev/kvm", f"Run: sudo adduser {_user()} kvm; then {then}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        return "$USER"


def _failure(ran: Ran) -> Choice:
    """Return TCG with the reason why the guest failed although /dev/kvm exists."""
    lines = ran.words.strip().splitlines() or ["it exited without output"]
    told = next((line for line in lines if "error:" in line), lines[-1]).removeprefix(f"{qemu.PROGRAM}: ").removeprefix("error: ")
    if ran.timed_out:
        return Choice(TCG, f"a guest on KVM did not start within {GUEST_S} s", "KVM is tried again in 10 minutes.", is_final=False)
    if "Device or resource busy" in ran.words:
        step = "Close VirtualBox or VMware; KVM is tried again in 10 minutes."
        return Choice(TCG, "another program uses the processor's virtualization", step, is_final=False)
    if "Permission denied" in ran.words:
        return _not_permitted()
    return Choice(TCG, f"QEMU does not run on KVM: {told}", UNKNOWN)


def run_guest(accelerator: Accelerator, *, timeout_s: float = GUEST_S) -> Ran:
    """Run the guest until it writes its sign, exits or times out; then kill it."""
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
    """Return a boot sector that writes a sign to the first serial port and halts."""
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
