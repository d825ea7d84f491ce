"""The life cycle of a machine: prepare its folder, start, stop, find and remove it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from clouds.driver import BootSpec, Kind, Resource, State
from clouds.errors import CloudError, ConflictError, InvalidError, NotFoundError, RestoreError, machine_exists
from clouds.home import write_private
from clouds.local.base.esp import boot_arguments, link_boot_files, take_boot_files
from clouds.local.base.host_environment import build_archive, build_files, host_settings
from clouds.local.disk.overlays import make_overlay
from clouds.local.host import files
from clouds.local.memory.fit import booting, difference, next_start, shape
from clouds.local.memory.resume import advice, resume
from clouds.local.memory.suspend import SUSPENDED, boot_anyway, check_not_being_suspended, suspend, unpause
from clouds.local.store import LOCK_S, Store, visible
from clouds.local.vm import qemu
from clouds.local.vm.accelerator import KNOWN, Accelerator, word
from clouds.local.vm.ports import close_port, open_ports
from clouds.local.vm.record import (
    MachineRecord,
    is_broken,
    new_record,
    read_record,
    with_facts,
    write_facts,
    write_record,
)
from clouds.local.vm.scope import scope_command
from clouds.local.vm.sockets import DISK_S, Agent, Orders, qmp
from clouds.locks import locked
from clouds.names import PROJECT
from clouds.partial import partial_folder, sweep
from clouds.waiter import until

_STOPPING = "stopping"
_SPAWNS_MAX = 5
_AGENT_S = 2.0
_PING_S = 0.2
_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines of a store."""

    store: Store
    root: Path = Path("/")
    """The root of the system files that `scope` reads; tests use their own."""

    def create(self, spec: BootSpec, accelerator: Accelerator, asleep: Path | None = None) -> None:
        """Prepare and start a machine, from saved memory if given; the same name and token mean the same machine."""
        sweep(self.store.machines)
        with self.store.locked():
            if not self._taken(spec):
                if spec.wishes.https_port:
                    qemu.check_free(spec.wishes.https_port)
                self.prepare(spec, asleep)
        folder, record = self._known(spec.name)
        if not record.spawns:
            self._spawn(folder, accelerator)

    def prepare(self, spec: BootSpec, asleep: Path | None = None) -> None:
        """Create everything of a machine except its process, then rename its folder, which makes it visible."""
        source = self.store.source(spec.source)
        folder = partial_folder(self.store.machines, spec.name)
        try:
            record = next_start(new_record(spec, created_at=time.time()), self.store.machines / spec.name, asleep)
            write_record(folder, record)
            write_facts(folder, record.facts)
            write_private(folder / "script", spec.script)
            if spec.build_settings:
                files.write_private_bytes(folder / "build", build_archive(build_files(host_settings())))
            for name in (qemu.CONSOLE, qemu.STEPS):
                write_private(folder / name, "")
            # A guest restored from memory sees a larger disk only after it resumes (see `resume`).
            size_bytes = 0 if asleep else spec.disk_gb * _GIB
            make_overlay(folder / qemu.DISK, (asleep or source) / qemu.DISK, size_bytes=size_bytes)
            if self.store.layer(spec.source) and not asleep:
                take_boot_files(folder / qemu.DISK, folder)  # a step may have brought a newer kernel
            else:
                link_boot_files(source, folder)
            folder.rename(self.store.machines / spec.name)
        finally:
            files.remove_folder(folder)

    def start(self, name: str, accelerator: Accelerator, *, deadline_s: int, facts: Mapping[str, str]) -> None:
        """Start a stopped machine, or resume a paused one (after a full host disk or an interrupted suspension)."""
        with self._exclusive(name) as (folder, record):
            if qemu.is_alive(folder):
                check_not_being_suspended(folder)
                sweep(folder)
                if (folder / SUSPENDED).is_dir():  # otherwise it never stopped, and keeps its lifetime
                    self._change(folder, lambda record: with_facts(record, facts, deadline_s=deadline_s))
                    qemu.renew_deadline(folder, deadline_s)
                if not record.memory:  # otherwise `is_up` restores it
                    unpause(folder)
                return
            (folder / _STOPPING).unlink(missing_ok=True)
            asleep = folder / SUSPENDED if (folder / SUSPENDED).is_dir() else None
            if asleep and (why := difference(asleep, shape(record, accelerator), any_qemu=True)):
                raise InvalidError(
                    f"cannot restore machine {name!r} from its saved memory: {why}",
                    next_step=boot_anyway(name),
                )
            record = self._change(
                folder, lambda record: next_start(with_facts(record, facts, deadline_s=deadline_s), folder, asleep)
            )
            write_facts(folder, record.facts)
            if not asleep:
                take_boot_files(folder / record.disk, folder)  # the guest may have a newer kernel by now
            self._spawn(folder, accelerator)

    def suspend(self, name: str, accelerator: Accelerator) -> None:
        """Save the memory of a running machine and stop it. `accelerator` is used if the record does not name one."""
        folder, record = self._known(name)
        is_alive = qemu.is_alive(folder)
        if (folder / SUSPENDED).is_dir() and not is_alive:
            return
        if not is_alive:
            raise InvalidError(f"machine {name!r} is not running", next_step=f"Start it: ./inv start {name}")
        check_not_being_suspended(folder)
        files.discard(folder / SUSPENDED)
        sweep(folder)
        suspend(folder, shape(record, KNOWN.get(record.runs_on, accelerator)))

    def is_up(self, name: str, accelerator: Accelerator) -> bool:
        """Return whether a started machine is running. Raises QEMU's own error if QEMU failed."""
        with self._exclusive(name) as (folder, record):
            if qemu.is_alive(folder):
                try:
                    qmp(folder, "query-status")
                except OSError:
                    return False
                if record.memory:
                    self._wake(folder, record, accelerator)
                return True
            error = qemu.death(folder)
            if isinstance(error, ConflictError) and record.spawns < _SPAWNS_MAX:  # a chosen port was taken before QEMU started
                self._spawn(folder, accelerator)
                return False
            if record.memory:
                raise RestoreError(f"QEMU could not restore the saved memory: {error or 'it exited'}", next_step=advice(record))
            if error:
                raise error
            return True

    def is_waiting(self, name: str) -> bool:
        """Return whether a guest waits for an order with its disk idle. CloudError: it is not running."""
        folder, _ = self._known(name)
        if not qemu.is_alive(folder):
            raise CloudError(f"machine {name!r} stopped before it was ready", next_step=f"See its console: ./inv log {name}")
        try:
            with Orders(folder, timeout_s=_PING_S) as orders:
                return orders.is_waiting()
        except OSError:
            return False

    def set_backing_file(self, name: str, layer: str, disk: str) -> None:
        """Record a machine's new disk, which overlays a layer."""
        folder, _ = self._known(name)
        self._change(folder, lambda record: replace(record, source=layer, disk=disk))

    def set_script(self, name: str, script: str) -> None:
        """Write the script that a waiting guest runs next."""
        folder, _ = self._known(name)
        write_private(folder / "script", script)

    def stop(self, name: str) -> None:
        """Ask the guest to shut down; discard the memory of a suspended machine."""
        folder, _ = self._known(name)
        if qemu.is_alive(folder):
            self._ask_to_stop(folder)
        else:
            files.remove_folder(folder / SUSPENDED)

    def is_off(self, name: str) -> bool:
        """Return whether a machine is off; repeat the request to shut down if the guest could not be asked before."""
        folder, _ = self._known(name)
        if not qemu.is_alive(folder):
            return True
        if not (folder / _STOPPING).exists():
            self._ask_to_stop(folder)
        return False

    def remove(self, name: str) -> str:
        """Kill and remove a machine; return its processes, for `qemu.are_gone`."""
        folder = self.store.machines / name
        if not folder.is_dir():
            return ""
        killed = qemu.kill(folder)
        files.discard(folder)
        self.store.machine_lock(name).unlink(missing_ok=True)
        return killed

    def label(self, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of a machine."""
        folder, _ = self._known(name)
        self._change(folder, lambda record: replace(record, labels={**record.labels, **labels}))

    def resources(self) -> list[Resource]:
        """Return all machines."""
        return [found for folder in visible(self.store.machines) if (found := self._resource(folder))]

    def find(self, name: str) -> Resource | None:
        """Return one machine, or None."""
        folder = self.store.machines / name
        return self._resource(folder) if folder.is_dir() else None

    def port(self, name: str, port: int) -> int:
        """Return the port of this computer that is forwarded to a guest port. InvalidError: it is not forwarded."""
        _, record = self._known(name)
        if str(port) not in record.forwards:
            raise InvalidError(
                f"port {port} of machine {name!r} is not forwarded", next_step="Forward it when you create the machine."
            )
        return record.forwards[str(port)]

    def open_shell(self, name: str, public_key: str, guest_port: int) -> int:
        """Start an SSH server for root with this key in the guest, and return the port of this computer that leads to it."""
        folder, _ = self._known(name)
        try:
            with Agent(folder, timeout_s=60) as agent:
                agent.execute("/usr/lib/bakehouse/open-shell", stdin=public_key + "\n")
        except OSError as error:
            raise CloudError(
                f"the guest agent of machine {name!r} does not respond", next_step="Wait until it has started, then try again."
            ) from error
        return self.open_port(name, guest_port)

    def open_port(self, name: str, guest_port: int) -> int:
        """Forward a port of this computer to a port of a running machine, unless one is forwarded already; return it."""
        folder, record = self._known(name)
        if str(guest_port) in record.forwards:
            return record.forwards[str(guest_port)]
        (port,) = qemu.free_ports([0])
        opened = open_ports(folder, {str(guest_port): port})
        self._change(folder, lambda record: replace(record, forwards={**record.forwards, **opened}))
        return opened[str(guest_port)]

    def close_port(self, name: str, guest_port: int) -> None:
        """Stop forwarding to a port of a machine; one that is off or absent has no open ports."""
        folder = self.store.machines / name
        record = read_record(folder) if folder.is_dir() else None
        if record is None or str(guest_port) not in record.forwards:
            return
        with suppress(OSError):  # it is off
            close_port(folder, record.forwards[str(guest_port)])
        left = {guest: ours for guest, ours in record.forwards.items() if guest != str(guest_port)}
        self._change(folder, lambda record: replace(record, forwards=left))

    def _taken(self, spec: BootSpec) -> bool:
        """Return whether this machine (name and token) exists. ConflictError: another machine has its name."""
        folder = self.store.machines / spec.name
        if not folder.is_dir():
            return False
        record = read_record(folder)
        if record is None or record.token != spec.token:
            raise machine_exists(spec.name, "local")
        return True

    def _wake(self, folder: Path, record: MachineRecord, accelerator: Accelerator) -> None:
        """Restore a machine from saved memory. If that fails, a builder boots from the disk of its layer instead."""
        try:
            awake = resume(folder, record)
        except RestoreError as error:
            self._end(folder)
            error.next_step = advice(record)
            if not record.has_build_settings:
                raise
            self._boot_instead(folder, record, accelerator)
            return
        self._change(folder, lambda now: booting(replace(now, forwards=awake.forwards)))

    def _boot_instead(self, folder: Path, record: MachineRecord, accelerator: Accelerator) -> None:
        (folder / record.disk).unlink()
        make_overlay(folder / record.disk, self.store.source(record.source) / qemu.DISK, size_bytes=record.disk_bytes)
        take_boot_files(folder / record.disk, folder)
        self._change(folder, booting)
        self._spawn(folder, accelerator)

    def _end(self, folder: Path) -> None:
        killed = qemu.kill(folder)
        until(lambda: qemu.are_gone(killed), what=f"exit of QEMU of machine {folder.name!r}", timeout_s=DISK_S)

    def _spawn(self, folder: Path, accelerator: Accelerator) -> None:
        def choose_ports(record: MachineRecord) -> MachineRecord:
            wanted = dict(record.forwards)
            if port := record.https_port:
                qemu.check_free(port)
                wanted[str(port)] = port
            forwards = dict(zip(wanted, qemu.free_ports(list(wanted.values())), strict=True))
            return replace(record, forwards=forwards, runs_on=word(accelerator), spawns=record.spawns + 1)

        record = self._change(folder, choose_ports)
        argv = qemu.arguments(record, accelerator, boot_arguments(folder))
        qemu.spawn(folder, argv, deadline_s=record.deadline_s, scope=scope_command(record.name, self.root))

    def _change(self, folder: Path, change: Callable[[MachineRecord], MachineRecord]) -> MachineRecord:
        """Change a machine's record under the lock, so that concurrent changes are not lost."""
        with self.store.locked():
            record = read_record(folder)
            if record is None:
                raise _absent(folder.name)
            changed = change(record)
            write_record(folder, changed)
        return changed

    def _ask_to_stop(self, folder: Path) -> None:
        try:
            with Agent(folder, timeout_s=_AGENT_S) as agent:
                agent.shut_down()
        except OSError:
            return  # the agent is not up yet, or the machine is gone: `is_off` asks again
        with suppress(FileNotFoundError):  # the machine was deleted
            (folder / _STOPPING).touch()

    @contextmanager
    def _exclusive(self, name: str) -> Iterator[tuple[Path, MachineRecord]]:
        """Hold the lock of a machine, so that two commands do not start it at the same time."""
        self._known(name)
        with locked(self.store.machine_lock(name), what=f"another command to start machine {name}", timeout_s=LOCK_S):
            yield self._known(name)

    def _known(self, name: str) -> tuple[Path, MachineRecord]:
        folder = self.store.machine(name)
        record = read_record(folder)
        if record is None and is_broken(folder):
            raise CloudError(f"cannot read the record of machine {name!r} in {folder}", next_step=f"Delete it: ./inv delete {name}")
        if record is None:
            raise _absent(name)
        return folder, record

    def _resource(self, folder: Path) -> Resource | None:
        record = read_record(folder)
        if record is None:
            return _broken(folder) if is_broken(folder) else None
        state = State.RUNNING if qemu.is_alive(folder) else State.STOPPED
        if (folder / SUSPENDED).is_dir():  # even if QEMU still runs because the client that suspended it was killed
            state = State.SUSPENDED
        if state is State.RUNNING and (folder / _STOPPING).exists():
            state = State.STOPPING
        return Resource(Kind.MACHINE, record.name, state, files.text_labels(record.labels), record.created_at)


def _broken(folder: Path) -> Resource:
    return Resource(Kind.MACHINE, folder.name, State.BROKEN, {"project": PROJECT, "machine": folder.name})


def _absent(name: str) -> NotFoundError:
    return NotFoundError(f"machine {name!r} not found on local", next_step="See: ./inv machines")
