"""Which machine a saved memory fits: the shape that both must have in common."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path

from clouds.local.host import files
from clouds.local.host.programs import which
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import Accelerator
from clouds.local.vm.record import MachineRecord

RECORD = "memory.json"
"""The file, in a folder of saved memory, with its shape, machine type and digests; written last, see `trust.seal`."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a machine must have in common with a saved memory to be restored from it. `devices` is a digest."""

    accelerator: str
    processor: str
    qemu: str
    cpus: int
    memory_mb: int
    devices: str


def shape(record: MachineRecord, accelerator: Accelerator) -> Shape:
    """Return the shape of a machine on this computer."""
    return Shape(
        accelerator=accelerator.name,
        processor=_processor() if accelerator.name == "kvm" else "emulated",
        qemu=_qemu(),
        cpus=record.cpus,
        memory_mb=record.memory_mb,
        devices=_digest("\n".join((*accelerator.arguments, *qemu.devices()))),
    )


def difference(folder: Path, wanted: Shape, *, any_qemu: bool = False) -> str:
    """Return in a few words why a machine of this shape cannot be restored from a saved memory; "" when it can.

    With `any_qemu` a different QEMU is no reason: it may load what another version saved, or reject it.
    """
    kept = files.read_json(folder / RECORD)
    if kept is None:
        return "no saved memory"
    try:
        frozen = Shape(**{one.name: kept["shape"][one.name] for one in fields(Shape)})
    except (KeyError, TypeError):
        return "its memory was saved by another release of Bakehouse"
    processors = "1 processor" if wanted.cpus == 1 else f"{wanted.cpus} processors"
    reasons = {
        f"{processors}, but its memory was saved with {frozen.cpus}": wanted.cpus != frozen.cpus,
        f"{wanted.memory_mb} MB, but its memory was saved with {frozen.memory_mb} MB": wanted.memory_mb != frozen.memory_mb,
        f"accelerator {wanted.accelerator}, but its memory was saved with {frozen.accelerator}": wanted.accelerator
        != frozen.accelerator,
        "its memory was saved by another QEMU": wanted.qemu != frozen.qemu and not any_qemu,
        "its memory was saved on another processor": wanted.processor != frozen.processor,
        "its memory was saved by another version of Bakehouse": wanted.devices != frozen.devices,
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def next_start(record: MachineRecord, folder: Path, memory: Path | None) -> MachineRecord:
    """Return the record of a machine in `folder` whose next start restores it from a saved memory; with None it boots."""
    if memory is None:
        return booting(record)
    saved = files.read_json(memory / RECORD) or {}
    return replace(
        record,
        memory=os.path.relpath(memory, folder),
        maps_memory=(memory / qemu.RAM).exists(),
        machine_type=saved.get("machine_type", ""),
    )


def booting(record: MachineRecord) -> MachineRecord:
    """Return the record of a machine whose next start boots it."""
    return replace(record, memory="", maps_memory=False, machine_type="")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _qemu() -> str:
    """Return what distinguishes one QEMU from another, without running it."""
    program = Path(which(qemu.PROGRAM) or "/nonexistent")
    return f"{program.stat().st_mtime_ns} {program.stat().st_size}" if program.exists() else ""


def _processor() -> str:
    """Return a digest of the processor features that guests see (-cpu host)."""
    lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()]
    wanted = ("model name", "flags", "microcode")
    return _digest("\n".join(sorted({f"{key.strip()} {value.strip()}" for key, _, value in lines if key.strip() in wanted})))
