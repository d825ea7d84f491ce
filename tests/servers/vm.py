"""What stands behind an instance of a test server: the interface, and machines that only follow a script.

A server calls these methods while it holds its lock, so none may block: each returns a `Done`, which says
whether the thing has happened yet, and raises `VmError` when it cannot.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

RING_BYTES = 1024 * 1024

Done = Callable[[], bool]


class VmError(Exception):
    """A machine could not do what it was told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """A disk as a machine sees it; `id` names it in the methods for disks."""

    id: str
    size_gb: int
    boot: bool
    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vm:
    """An instance at the moment of a start; `id` stays the same over stops and starts."""

    id: str
    name: str
    zone: str
    cpus: int
    memory_mb: int
    metadata: Mapping[str, str]
    labels: Mapping[str, str]
    tags: tuple[str, ...]
    drives: tuple[Drive, ...]
    address: str = ""
    spot: bool = False


class Host(Protocol):
    """What a server offers to the machines behind it."""

    def now(self) -> float: ...

    def after(self, delay_s: float, action: Callable[[], None]) -> None: ...

    def ended(self, vm_id: str) -> None:
        """Take note that a guest has gone off by itself; may be called from any thread."""

    def is_open(self, vm_id: str, port: int, source: str) -> bool: ...


class Ring:
    """The output of one serial port: the last MiB of it, and how much there has been."""

    def __init__(self, size: int = RING_BYTES) -> None:
        self._size, self._kept, self.end = size, b"", 0

    @property
    def start(self) -> int:
        """Return the position of the oldest byte that is kept."""
        return self.end - len(self._kept)

    def write(self, data: bytes) -> None:
        self.end += len(data)
        self._kept = (self._kept + data)[-self._size :]

    def read(self, since: int) -> tuple[int, bytes]:
        """Return the position of the first byte, and what is kept from there; a negative `since` counts from the end."""
        start = max(self.start, min(self.end, self.end + since if since < 0 else since))
        return start, self._kept[start - self.start :]


class Vms(Protocol):
    """The machines behind a server."""

    def bind(self, host: Host) -> None:
        """Learn who to tell; called once, before all else."""

    def start(self, vm: Vm) -> Done:
        """Power on, from off; the output of the serial ports begins anew."""

    def stop(self, vm_id: str) -> Done:
        """Press the power button, and pull the plug when the guest does not heed it."""

    def suspend(self, vm_id: str) -> Done: ...

    def resume(self, vm_id: str) -> Done: ...

    def reset(self, vm_id: str) -> Done: ...

    def delete(self, vm_id: str) -> Done:
        """Pull the plug and forget the machine; its disks are deleted one by one."""

    def serial(self, vm_id: str, port: int) -> Ring:
        """Return the output of serial port 1 to 4."""

    def create_disk(self, disk_id: str, size_gb: int, image_id: str) -> Done: ...

    def delete_disk(self, disk_id: str) -> None: ...

    def copy_disk(self, disk_id: str, image_id: str) -> Done:
        """Make an image of a disk; what is on the disk now is what counts."""

    def delete_image(self, image_id: str) -> None: ...

    def close(self) -> None:
        """End all machines."""


class Off(Enum):
    """The guest powers itself off."""

    OFF = "off"


OFF = Off.OFF


class Read(Enum):
    """The guest waits until its console has been read once more."""

    READ = "read"


READ = Read.READ

Step = str | bytes | float | Off | Read
"""Something that a scripted guest does: print on port 1, wait for seconds or for a reader, or power itself off."""

Play = Callable[[Vm], Iterable[Step]]


def silent(vm: Vm) -> Iterable[Step]:
    """Boot without a word and stay on."""
    return ()


def _at_once() -> bool:
    return True


class ScriptedVms:
    """Machines that print and end as a function says; `play` is asked at each boot."""

    def __init__(self, play: Play = silent) -> None:
        self.play = play
        self.boots: list[Vm] = []
        self.disks: dict[str, str] = {}
        self.images: dict[str, str] = {}
        self._host: Host | None = None
        self._rings: dict[str, dict[int, Ring]] = {}
        self._running: dict[str, Iterator[Step]] = {}
        self._vms: dict[str, Vm] = {}
        self._frozen: set[str] = set()
        self._awaits_reader: set[str] = set()

    def bind(self, host: Host) -> None:
        self._host = host

    def start(self, vm: Vm) -> Done:
        self.boots.append(vm)
        self._vms[vm.id] = vm
        self._rings[vm.id] = {port: Ring() for port in range(1, 5)}
        self._awaits_reader.discard(vm.id)
        steps = self._running[vm.id] = iter(self.play(vm))
        self._go_on(vm.id, steps)
        return _at_once

    def stop(self, vm_id: str) -> Done:
        self._running.pop(vm_id, None)
        return _at_once

    def suspend(self, vm_id: str) -> Done:
        self._frozen.add(vm_id)
        return _at_once

    def resume(self, vm_id: str) -> Done:
        self._frozen.discard(vm_id)
        if vm_id in self._running:
            self._go_on(vm_id, self._running[vm_id])
        return _at_once

    def reset(self, vm_id: str) -> Done:
        steps = self._running[vm_id] = iter(self.play(self._vms[vm_id]))
        self._go_on(vm_id, steps)
        return _at_once

    def delete(self, vm_id: str) -> Done:
        for kept in (self._running, self._rings, self._vms):
            kept.pop(vm_id, None)
        self._frozen.discard(vm_id)
        return _at_once

    def serial(self, vm_id: str, port: int) -> Ring:
        """Return the output as it is now; a guest that waits for its reader goes on behind that."""
        ring = self._rings.get(vm_id, {}).get(port) or Ring()
        if port != 1 or vm_id not in self._awaits_reader:
            return ring
        seen = copy.copy(ring)
        self._awaits_reader.discard(vm_id)
        if vm_id in self._running:
            self._go_on(vm_id, self._running[vm_id])
        return seen

    def create_disk(self, disk_id: str, size_gb: int, image_id: str) -> Done:
        self.disks[disk_id] = image_id
        return _at_once

    def delete_disk(self, disk_id: str) -> None:
        self.disks.pop(disk_id, None)

    def copy_disk(self, disk_id: str, image_id: str) -> Done:
        self.images[image_id] = disk_id
        return _at_once

    def delete_image(self, image_id: str) -> None:
        self.images.pop(image_id, None)

    def close(self) -> None:
        self._running.clear()

    def write(self, vm_id: str, data: bytes, port: int = 1) -> None:
        """Let a guest print something now."""
        self._rings[vm_id][port].write(data)

    def _go_on(self, vm_id: str, steps: Iterator[Step]) -> None:
        """Play up to the next wait; a machine that was stopped or started anew meanwhile has other steps."""
        assert self._host
        if self._running.get(vm_id) is not steps or vm_id in self._frozen:
            return
        for step in steps:
            if step is OFF:
                del self._running[vm_id]
                self._host.ended(vm_id)
                return
            if step is READ:
                self._awaits_reader.add(vm_id)
                return
            if isinstance(step, (int, float)):
                self._host.after(step, lambda: self._go_on(vm_id, steps))
                return
            assert isinstance(step, (str, bytes))
            self._rings[vm_id][1].write(step.encode() if isinstance(step, str) else step)
