"""A machine as it is written down in its folder (machine.json), before anything of it is started."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from clouds.driver import BootSpec
from clouds.home import write_private
from clouds.local import files

DISK = "disk.qcow2"
_FILE = "machine.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """All that starting the machine again takes. `forwards`: port in the guest -> port of this computer (JSON keys are text).

    `disk` is the file of its disk: not renamed while QEMU has it, which may open it again by its name.

    `memory` is the folder, relative to the machine's, of the memory from which its next start goes on ("" = it boots);
    `maps_memory` says that its RAM lies there in a file, `machine_type` what QEMU emulated as it was saved.
    One that `waits` takes orders (see `sockets.Orders`).
    """

    name: str
    token: str
    source: str
    cpus: int
    memory_mb: int
    labels: dict[str, str]
    facts: dict[str, str]
    forwards: dict[str, int]
    deadline_s: int
    created_at: float
    has_script: bool
    has_build_settings: bool
    disk_bytes: int = 0
    disk: str = DISK
    freezes: bool = False
    waits: bool = False
    memory: str = ""
    maps_memory: bool = False
    machine_type: str = ""
    spawns: int = 0


def new_record(spec: BootSpec, *, created_at: float) -> MachineRecord:
    """Write a machine down as it was ordered; its ports are chosen when it starts."""
    return MachineRecord(
        name=spec.name,
        token=spec.token,
        source=spec.source,
        cpus=spec.cpus,
        memory_mb=spec.memory_mb,
        labels=dict(spec.labels),
        facts=dict(spec.facts),
        forwards={str(port): 0 for port in spec.ports},
        deadline_s=spec.deadline_s,
        created_at=created_at,
        has_script=bool(spec.script),
        has_build_settings=spec.build_settings,
        disk_bytes=spec.disk_gb * 2**30,
        freezes=spec.freezes,
        waits=spec.freezes or spec.build_settings,
    )


def read_record(folder: Path) -> MachineRecord | None:
    """Return the record in a machine's folder, or None."""
    record = files.read_json(folder / _FILE)
    return MachineRecord(**record) if record else None


def write_record(folder: Path, record: MachineRecord) -> None:
    """Write a record into its machine's folder."""
    files.write_json(folder / _FILE, asdict(record))


def write_facts(folder: Path, facts: Mapping[str, str]) -> None:
    """Write the facts as the guest reads them: lines that a shell can source."""
    write_private(folder / "facts", "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()))


def with_facts(record: MachineRecord, facts: Mapping[str, str], *, deadline_s: int) -> MachineRecord:
    """Return the record for another start: facts laid over those it has, and a deadline of its own."""
    return replace(record, facts={**record.facts, **facts}, deadline_s=deadline_s)


def from_memory(record: MachineRecord, folder: Path, memory: Path | None) -> MachineRecord:
    """Return the record of a machine in `folder` that goes on from a memory at its next start; without one it boots."""
    if memory is None:
        return replace(record, memory="", maps_memory=False, machine_type="")
    saved = files.read_json(memory / "memory.json") or {}
    return replace(
        record,
        memory=os.path.relpath(memory, folder),
        maps_memory=(memory / "ram").exists(),
        machine_type=saved.get("machine_type", ""),
    )
