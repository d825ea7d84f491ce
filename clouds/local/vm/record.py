"""A machine as it is written down in its folder (machine.json), before anything of it is started."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from clouds.driver import BootSpec
from clouds.home import write_private
from clouds.local.host import files
from clouds.names import PROJECT

DISK = "disk.qcow2"
MACHINE = "machine.json"
_KINDS: Mapping[type, type | tuple[type, ...]] = {str: str, int: int, float: (int, float), bool: bool, dict: dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineRecord:
    """All that starting the machine again takes. What the record of another release lacks has its default.

    `forwards`: port in the guest -> port of this computer (JSON keys are text).

    `disk` is the file of its disk: not renamed while QEMU has it, which may open it again by its name.

    `memory` is the folder, relative to the machine's, of the memory from which its next start goes on ("" = it boots);
    `maps_memory` says that its RAM lies there in a file, `machine_type` what QEMU emulated as it was saved.
    `runs_on` is the accelerator that it was last started with, by its word in `accelerator.KNOWN`.
    One that `waits` takes orders (see `sockets.Orders`). `spawns` counts how often QEMU was started for the current start.
    `others` holds what another release wrote and this one does not know.
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
    """Return the record in a machine's folder; None when it is absent or cannot be read: `is_broken` tells which."""
    kept = files.read_json(folder / MACHINE)
    if kept is None:
        return None
    known = {one.name for one in fields(MachineRecord)} - {"others"}
    others = {key: value for key, value in kept.items() if key not in known}
    record = MachineRecord(**{"name": folder.name, **{key: kept[key] for key in known & kept.keys()}, "others": others})
    return record if _is_sound(record) else None


def is_broken(folder: Path) -> bool:
    """Say whether a machine's folder has a record that cannot be read."""
    return (folder / MACHINE).exists() and read_record(folder) is None


def _is_sound(record: MachineRecord) -> bool:
    """Say whether each value is of the kind that it is to be."""
    model = MachineRecord(name="")
    return all(isinstance(getattr(record, one.name), _KINDS[type(getattr(model, one.name))]) for one in fields(record))


def write_record(folder: Path, record: MachineRecord) -> None:
    """Write a record into its machine's folder."""
    written = asdict(record)
    others = written.pop("others")
    files.write_json(folder / MACHINE, {**written, **others})


def write_facts(folder: Path, facts: Mapping[str, str]) -> None:
    """Write the facts as the guest reads them: lines that a shell can source."""
    write_private(folder / "facts", "".join(f"{key}={shlex.quote(value)}\n" for key, value in facts.items()))


def with_facts(record: MachineRecord, facts: Mapping[str, str], *, deadline_s: int) -> MachineRecord:
    """Return the record for another start: facts laid over those it has, and a deadline of its own."""
    return replace(record, facts={**record.facts, **facts}, deadline_s=deadline_s, spawns=0)
