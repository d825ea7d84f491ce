"""The record of a machine in its folder (machine.json), written before anything is started."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from clouds.driver import BootSpec
from clouds.home import write_private
from clouds.local.host import files
from clouds.names import PROJECT, number

DISK = "disk.qcow2"
MACHINE = "machine.json"
_KINDS: Mapping[type, type | tuple[type, ...]] = {str: str, int: int, float: (int, float), bool: bool, dict: dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """Everything needed to start the machine again. Fields that are missing in the record of another release get their default.

    `forwards`: port in the guest -> port of this computer (JSON keys are text).

    `disk` is the file name of its disk. It is never renamed while QEMU runs, since QEMU may reopen it by name.

    `memory` is the folder of saved memory, relative to the machine's, from which the next start restores it ("": it boots).
    `maps_memory`: its RAM is a file in that folder. `machine_type`: what QEMU emulated when it was saved.
    `runs_on` is the accelerator of the last start, a key of `accelerator.KNOWN`.
    `waits`: the guest accepts orders (see `sockets.Orders`). `spawns` counts the QEMU processes of the current start.
    `others` holds the fields of other releases that this one does not know.
    """

    name: str
    token: str = ""
    source: str = ""
    cpus: int = 1
    memory_mb: int = 1024
    labels: dict[str, str] = field(default_factory=lambda: {"project": PROJECT})
    facts: dict[str, str] = field(default_factory=dict)
    forwards: dict[str, int] = field(default_factory=dict)
    deadline_s: int = 0
    created_at: float = 0.0
    has_script: bool = False
    has_build_settings: bool = False
    disk_bytes: int = 0
    disk: str = DISK
    freezes: bool = False
    waits: bool = False
    memory: str = ""
    maps_memory: bool = False
    machine_type: str = ""
    runs_on: str = ""
    spawns: int = 0
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def https_port(self) -> int:
        """The port of this computer that the user has chosen for the notebook; 0: none. It is also that of the guest."""
        return number(self.labels, "https")


def new_record(spec: BootSpec, *, created_at: float) -> MachineRecord:
    """Return the record of a new machine; its ports are chosen when it starts."""
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
    """Return the record in a machine's folder, or None if it is missing or unreadable (`is_broken`)."""
    kept = files.read_json(folder / MACHINE)
    if kept is None:
        return None
    known = {one.name for one in fields(MachineRecord)} - {"others"}
    others = {key: value for key, value in kept.items() if key not in known}
    record = MachineRecord(**{"name": folder.name, **{key: kept[key] for key in known & kept.keys()}, "others": others})
    return record if _is_sound(record) else None


def is_broken(folder: Path) -> bool:
    """Return whether a machine's folder has an unreadable record."""
    return (folder / MACHINE).exists() and read_record(folder) is None


def _is_sound(record: MachineRecord) -> bool:
    """Return whether each value has the type of its field."""
    model = MachineRecord(name="")
    return all(isinstance(getattr(record, one.name), _KINDS[type(getattr(model, one.name))]) for one in fields(record))


def write_record(folder: Path, record: MachineRecord) -> None:
    """Write a record into its machine's folder."""
    written = asdict(record)
    others = written.pop("others")
    files.write_json(folder / MACHINE, {**written, **others})


def write_facts(folder: Path, facts: Mapping[str, str]) -> None:
    """Write the facts for the guest: lines that a shell can source."""
    write_private(folder / "facts", "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()))


def with_facts(record: MachineRecord, facts: Mapping[str, str], *, deadline_s: int) -> MachineRecord:
    """Return the record for another start, with added or replaced facts and a new deadline."""
    return replace(record, facts={**record.facts, **facts}, deadline_s=deadline_s, spawns=0)
