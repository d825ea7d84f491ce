"""Choose the accelerator for virtual machines on this computer, with the reason if it is not KVM.

/dev/kvm alone proves nothing: on some nested hosts a guest on KVM hangs silently, or QEMU aborts. So a test guest is run once
(`probe`), and the result is cached until this computer, its kernel or its QEMU changes.
"""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from clouds.errors import MissingToolError, UsageError
from clouds.local.host import files
from clouds.local.host.programs import which

PROGRAM = "qemu-system-x86_64"
OLDEST = (7, 0)
"""The oldest QEMU that knows every option of `qemu.arguments`: `i8042=off` came with 7.0 (QEMU's commit 4ccd5fe22f)."""

UNKNOWN = "For more about KVM see docs/hosts.md."
"""The fix where none is known."""

_AGAIN_S = 600
"""When to probe KVM again after a temporary failure, such as a busy computer."""
_VERSION_S = 30


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A way to run guests: QEMU's arguments, kernel parameters for the guest, and by what factor it is slower than hardware."""

    name: str
    slowness: float
    arguments: tuple[str, ...]
    cmdline: str = ""


KVM = Accelerator("kvm", 1.0, ("-accel", "kvm", "-cpu", "host"))
# On nested hosts QEMU may abort on registers of these features, which our guests do not need: 0x38d and 0x345 of the
# performance counters, 0x480 to 0x491 of VMX. https://github.com/GNS3/gns3-server/issues/1512,
# https://github.com/LabNConsulting/munet/issues/38, https://github.com/coreos/coreos-assembler/pull/199
KVM_NESTED = Accelerator("kvm", 1.0, ("-accel", "kvm", "-cpu", "host,vmx=off,svm=off,pmu=off"))
# la57=off: 5-level page tables cost a tenth of the boot. svm=off: nested virtualization makes the guest load useless drivers;
# but without it the cache sizes are not readable and OpenBLAS warns in every notebook, hence xlevel.
# erms=off: with ERMS the kernel and libc copy and clear memory byte by byte (`rep movsb`, `rep stosb`), each byte emulated.
# tsc=reliable: on a busy computer the kernel's watchdog finds the time stamp counter unstable, and the kernel then patches its
# running code; before QEMU 8.1 a virtual CPU may execute half-patched code and panic (`int3`, `double fault`).
# mitigations=off: mitigations against speculation cost time and have no effect on translated code.
TCG = Accelerator(
    "tcg",
    8.0,
    ("-accel", "tcg,thread=multi", "-cpu", "max,la57=off,svm=off,erms=off,xlevel=0x8000001d"),
    cmdline="tsc=reliable mitigations=off",
)
_OPTIONS = {accelerator.name: accelerator for accelerator in (KVM, TCG)}
KNOWN = {"kvm": KVM, "kvm-nested": KVM_NESTED, "tcg": TCG}
"""Each accelerator by its name in records."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The accelerator of guests; if it is TCG without the user's request, also the reason and the fix.

    `is_final`: the reason holds until this computer changes; otherwise KVM is probed again after ten minutes.
    """

    accelerator: Accelerator
    reason: str = ""
    fix: str = ""
    is_final: bool = True


def choose(
    cache: Path,
    wanted: str = "",
    *,
    probe: Callable[[], Choice] | None = None,
    version: Callable[[], str] | None = None,
    now: Callable[[], float] = time.time,
) -> Choice:
    """Return the accelerator that the user wants (kvm, tcg, or "" for the best that works), and cache the result of the probe.

    Raises UsageError for an unknown name or a KVM that does not work, MissingToolError if QEMU is too old.
    """
    if wanted not in ("", *_OPTIONS):
        raise UsageError(
            f"unknown accelerator {wanted!r}",
            next_step=f"Choose {' or '.join(_OPTIONS)}, or omit --accelerator and its setting.",
        )
    if which(PROGRAM) is None:
        return Choice(_OPTIONS.get(wanted, TCG))  # not cached: QEMU is installed on first use
    host, kept = _host(), files.read_json(cache) or {}
    if kept.get("host") != host:
        check_version((version or printed_version)())
        kept = {"host": host}
    if wanted == TCG.name:
        _keep(cache, kept)
        return Choice(TCG)
    again_at = kept.get("again_at", float("inf"))
    if kept.get("accelerator") in KNOWN and now() < again_at and not (wanted and "again_at" in kept):
        found = Choice(KNOWN[kept["accelerator"]], kept.get("reason", ""), kept.get("fix", ""))
    else:
        from clouds.local.vm.probe import find_kvm

        found = (probe or find_kvm)()
        again = {} if found.is_final else {"again_at": now() + _AGAIN_S}
        _keep(cache, {"host": host, "accelerator": word(found.accelerator), "reason": found.reason, "fix": found.fix, **again})
    if wanted and found.accelerator is TCG:
        raise UsageError(
            f"KVM does not work on this computer: {found.reason}",
            next_step=f"Omit --accelerator (or its setting), or use --accelerator tcg.\n{found.fix}",
        )
    return found


def word(accelerator: Accelerator) -> str:
    """Return the key of an accelerator in `KNOWN`, or ""."""
    return next((word for word, known in KNOWN.items() if known == accelerator), "")


def printed_version() -> str:
    """Return the output of `qemu --version`."""
    command = [PROGRAM, "--version"]
    return subprocess.run(
        command, executable=which(PROGRAM), capture_output=True, text=True, timeout=_VERSION_S, check=False
    ).stdout


def check_version(printed: str) -> None:
    """Raise MissingToolError if QEMU, according to the output of `--version`, is too old for our machines."""
    version = parse_version(printed)
    if version and version < OLDEST:
        found, needed = (".".join(map(str, number)) for number in (version, OLDEST))
        raise MissingToolError(
            f"QEMU {found} is too old: Bakehouse needs {needed} or newer",
            next_step="Upgrade to Debian 12, Ubuntu 24.04 or newer (docs/hosts.md), or use a cloud: --cloud gcp",
        )


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (major, minor) from the output of `qemu --version`, or None if it has another format."""
    words = text.removeprefix("QEMU emulator version ").split(".")
    return (int(words[0]), int(words[1])) if len(words) > 1 and words[0].isdigit() and words[1].isdigit() else None


def _keep(cache: Path, record: dict[str, object]) -> None:
    cache.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write_json(cache, record)


def _host() -> str:
    """Return what the cached result depends on; the boot id stands for kernel modules and their parameters."""
    qemu = Path(which(PROGRAM) or "/nonexistent")
    stamp = f"{qemu.stat().st_mtime_ns} {qemu.stat().st_size}" if qemu.exists() else "none"
    boot = Path("/proc/sys/kernel/random/boot_id")
    device = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return f"{platform.release()} {boot.read_text(encoding='ascii').strip() if boot.exists() else ''} {stamp} {device}"
