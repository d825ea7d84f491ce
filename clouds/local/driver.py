"""The driver of the local cloud: the Protocols of clouds/driver.py and clouds/capabilities.py, by means of its sibling modules."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

from clouds.capabilities import Layer
from clouds.driver import (
    EVERY_KIND,
    START,
    Base,
    BaseImage,
    BootSpec,
    ConsoleText,
    Endpoint,
    Kind,
    Limits,
    Position,
    Resource,
    Tell,
    Ticket,
)
from clouds.errors import NotFoundError
from clouds.findings import Check, Size
from clouds.local import diagnosis
from clouds.local.base.host_environment import host_settings
from clouds.local.disk.contents import DiskContents
from clouds.local.host import network
from clouds.local.host.command import as_cloud_errors
from clouds.local.host.installing import ensure_tools
from clouds.local.host.programs import check_computer, which
from clouds.local.images import Images
from clouds.local.layers import Layers
from clouds.local.machines import Machines
from clouds.local.memory import trust
from clouds.local.memory.fit import difference, shape
from clouds.local.memory.freeze import MEMORY, freeze
from clouds.local.store import Store
from clouds.local.vm import console, qemu
from clouds.local.vm.accelerator import UNKNOWN, Accelerator, Choice, choose
from clouds.local.vm.orders import give_order, order
from clouds.local.vm.record import new_record, read_record
from clouds.local.vm.scope import logout_notices
from clouds.local.vm.sockets import DISK_S
from clouds.names import is_name

_SCRIPT_BYTES = 24 * 2**20
"""The largest script that goes through QEMU's fw_cfg, or in an order through a virtio port: there both are in memory several times.
A choice of ours: 16 MiB of files as a script carries them."""
_SSH_PORT = 22
_LOOPBACK = "127.0.0.1"
_SHELL_PORT = 2222
_HIDE = 'To hide this line: --accelerator tcg, or accelerator = "tcg" under [local] in the settings file.'
_GUEST_SYNC_S = 300.0
"""How long a guest may take to flush its caches on shutdown; a longer limit would delay the report of one that hangs."""
_DISK_DEADLINES_S = {"stop": _GUEST_SYNC_S} | dict.fromkeys(("delete", "freeze", "keep-layer", "go-on"), DISK_S)


class LocalCloud:
    """Virtual machines on this computer; see clouds.driver for what each operation promises."""

    name = "local"
    account = ""
    grants: frozenset[str] = frozenset({"https_port"})
    ends_machines: Literal[True] = True
    installs_in_bases: Literal[True] = True
    overlays_images: Literal[True] = True
    is_remote = False
    stopped_costs = ""

    def __init__(self, folder: Path, accelerator: str = "", root: Path = Path("/")) -> None:
        self._store = Store(folder)
        self._wanted = accelerator
        self._chosen: Choice | None = None
        self._machines = Machines(self._store, root)
        self._images = Images(self._store)
        self._layers = Layers(self._store)

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator of guests on this computer."""
        return self._choice.accelerator

    @property
    def slowness(self) -> float:
        """By what factor guests here are slower than real hardware."""
        return self.accelerator.slowness

    @property
    def limits(self) -> Limits:
        """Time limits of operations, and the limit of a script. Disk time does not depend on KVM: the slowness is divided out."""
        operations_s = {verb: limit_s / self.slowness for verb, limit_s in _DISK_DEADLINES_S.items()}
        return Limits(operations_s=operations_s, script_bytes=_SCRIPT_BYTES)

    @property
    def accelerator_name(self) -> str:
        """The accelerator of machines: kvm, or tcg for emulation."""
        return self.accelerator.name

    def check_computer(self) -> None:
        """Raise MissingToolError where machines cannot run on this computer, UsageError if the chosen accelerator does not work."""
        check_computer()
        self._check_accelerator()

    def notices(self) -> list[str]:
        """Return a line per problem of this computer: KVM not used (unless the user chose tcg), no IPv4."""
        choice = self._choice
        if not choice.reason:
            return network.notices()
        hide = f" {_HIDE}" if choice.fix == UNKNOWN else ""
        return [
            *network.notices(),
            f"KVM is not used: {choice.reason}; machines are emulated, about {self.slowness:.0f} times slower. {choice.fix}{hide}",
        ]

    def logout_notices(self) -> list[str]:
        """Return a warning if machines started from here end when the user logs out."""
        return logout_notices(self._machines.root)

    def checks(self, largest: Size) -> Mapping[str, Check]:
        """Return what `doctor` checks of this computer; QEMU itself refuses a machine that is too large."""
        return diagnosis.checks(self)

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return the stored base, or build one."""
        say = tell or _say_nothing
        ensure_tools(self._store.folder, say)
        self._check_accelerator()  # QEMU may have been installed just now
        with self._told():
            is_new = refresh or self._store.bases.kept(base) is None
            found = self._store.bases.resolve(base, refresh=refresh, tell=say)
            if is_new:
                self._store.prune_bases()
        return found

    def kept_base(self, base: Base) -> BaseImage | None:
        """Return the newest stored base of the current definition, or None."""
        with self._told():
            return self._store.bases.kept(base)

    def package_indexes(self) -> tuple[str, ...]:
        """Return the package indexes that a builder uses, with user names and passwords."""
        settings = host_settings()
        return tuple(url for url in (settings.index, *settings.extra_indexes) if url)

    def sweep(self) -> None:
        """Remove unfinished work of dead processes, and damaged layers."""
        with self._told():
            self._store.sweep()
            self._layers.remove_damaged()

    def boot(self, spec: BootSpec) -> Ticket:
        """Prepare a machine and start its QEMU; on a layer, restore the layer's memory if it fits."""
        ensure_tools(self._store.folder, _say_nothing)
        with self._told():
            layer = self._store.layer(spec.source)
            if layer:
                self._layers.use(layer.name)
            asleep = layer if layer and not self._difference(spec, layer) else None
            self._machines.create(spec, self.accelerator, asleep)
        return Ticket("boot", Kind.MACHINE, spec.name)

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        """Start QEMU on the machine's disk."""
        with self._told():
            self._machines.start(machine, self.accelerator, deadline_s=deadline_s, facts=facts)
        return Ticket("start", Kind.MACHINE, machine)

    def stop(self, machine: str) -> Ticket:
        """Ask the guest, through its agent, to shut down."""
        self._machines.stop(machine)
        return Ticket("stop", Kind.MACHINE, machine)

    def suspend(self, machine: str) -> Ticket:
        """Save a machine's memory next to its disk, then end its QEMU."""
        with self._told():
            self._machines.suspend(machine, self.accelerator)
        return Ticket("suspend", Kind.MACHINE, machine)

    def resumed_for_s(self, machine: str) -> float | None:
        """Return None: its QEMU gets a new deadline."""
        return None

    def freeze(self, machine: str, image: str) -> Ticket:
        """Save the guest's memory with the image once it waits; `check` does the work."""
        return Ticket("freeze", Kind.MACHINE, machine, image)

    def unfit(self, spec: BootSpec) -> str:
        """Return why the saved memory of the image does not fit this machine, or ""."""
        return self._difference(spec, self._store.images / spec.source / MEMORY)

    def restore(self, spec: BootSpec) -> Ticket:
        """Prepare a machine on the disk that was saved with the memory, and restore it."""
        ensure_tools(self._store.folder, _say_nothing)
        with self._told():
            asleep = self._store.image(spec.source) / MEMORY
            trust.check(asleep)
            self._machines.create(spec, self.accelerator, asleep)
        return Ticket("restore", Kind.MACHINE, spec.name)

    def memory_bytes(self, image: str) -> int:
        """Return the size of an image's saved memory in bytes."""
        return trust.size_bytes(self._store.images / image / MEMORY)

    def layers(self) -> list[Layer]:
        """Return the cached layers."""
        with self._told():
            return self._layers.all()

    def keep_layer(self, machine: str, *, key: str, parent: str, step: str, own: str) -> Ticket:
        """Save the guest's disk and memory as a layer once it waits; `check` does the work."""
        return Ticket("keep-layer", Kind.MACHINE, machine, json.dumps({"key": key, "parent": parent, "step": step, "own": own}))

    def go_on(self, machine: str, script: str) -> Ticket:
        """Give the guest its next script once it waits; `check` does the work."""
        with self._told():
            self._machines.set_script(machine, script)
        return Ticket("go-on", Kind.MACHINE, machine)

    def remove_layer(self, layer: str) -> bool:
        """Remove a layer that nothing overlays."""
        with self._told():
            return self._layers.remove(layer)

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        """Make an image of a machine's disk; done when this returns."""
        record = read_record(self._store.machine(machine))
        if record is None:
            raise NotFoundError(f"machine {machine!r} not found on local", next_step="See: ./inv machines")
        with self._told():
            self._images.snapshot(record, image, labels)
        return Ticket("snapshot", Kind.IMAGE, image)

    def check(self, ticket: Ticket) -> bool:
        """Return whether the operation of a ticket has ended."""
        if ticket.verb in ("boot", "restore", "start"):
            with self._told():
                return self._machines.is_up(ticket.name, self.accelerator)
        if ticket.verb in ("freeze", "keep-layer", "go-on"):
            with self._told():
                return self._machines.is_waiting(ticket.name) and self._serve(ticket)
        if ticket.verb == "suspend":
            return not qemu.is_alive(self._store.machine(ticket.name))
        if ticket.verb == "stop":
            return self._machines.is_off(ticket.name)
        if ticket.verb == "delete":
            return qemu.are_gone(ticket.operation)
        return True

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        """Return the output of the serial console. HostFullError: QEMU paused the machine because the disk is full."""
        with self._machine_folder(machine) as folder:
            console.check_space(folder)
            return console.read(folder / qemu.CONSOLE, since)

    def log(self, machine: str, since: Position = START) -> ConsoleText:
        """Return the output of the steps."""
        with self._machine_folder(machine) as folder:
            return console.read(folder / qemu.STEPS, since)

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Return a machine or an image, or None."""
        if not is_name(name):
            return None
        if kind is Kind.MACHINE:
            return self._machines.find(name)
        return self._images.find(name) if kind is Kind.IMAGE else None

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        """Return the machines and images that have all these labels."""
        found = self._machines.resources() if Kind.MACHINE in kinds else []
        found += self._images.resources() if Kind.IMAGE in kinds else []
        return sorted(
            (resource for resource in found if labels.items() <= resource.labels.items()), key=lambda resource: resource.created_at
        )

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of a machine or an image."""
        with self._told():
            if kind is Kind.MACHINE:
                self._machines.label(name, labels)
            elif kind is Kind.IMAGE:
                self._images.label(name, labels)
            else:
                raise NotFoundError(
                    f"{kind} {name!r} not found on local", next_step="The local cloud has machines and images only."
                )

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        """Remove a machine, running or not, or an image that nothing overlays."""
        killed = ""
        with self._told():
            if not is_name(name):
                pass  # nothing has this name, which is a success
            elif kind is Kind.MACHINE:
                killed = self._machines.remove(name)
            elif kind is Kind.IMAGE:
                self._images.remove(name)
        return Ticket("delete", kind, name, killed)

    def address(self, machine: str, port: int) -> Endpoint:
        """Return the address on this computer that QEMU forwards to a port of the guest."""
        return Endpoint(_LOOPBACK, self._machines.port(machine, port))

    def open_shell(self, machine: str, public_key: str) -> Endpoint:
        """Start an SSH server for this key in the guest, and forward a port to it."""
        with self._told():
            return Endpoint(_LOOPBACK, self._machines.open_shell(machine, public_key, _SHELL_PORT))

    def open_ssh(self, machine: str) -> Ticket:
        """Let a port of this computer lead to the SSH server of a builder."""
        with self._told():
            self._machines.open_port(machine, _SSH_PORT)
        return Ticket("open-ssh", Kind.MACHINE, machine)

    def close_ssh(self, machine: str) -> Ticket:
        """Let no port lead there."""
        with self._told():
            self._machines.close_port(machine, _SSH_PORT)
        return Ticket("close-ssh", Kind.MACHINE, machine)

    def files(self, image: str, scratch: Path) -> DiskContents:
        """Open an image's root filesystem for reading."""
        with self._told():
            return DiskContents(self._store.image(image) / qemu.DISK, scratch)

    def attach(self, image: str, files: Mapping[str, Path]) -> None:
        """Copy files into the folder of an image."""
        with self._told():
            self._images.attach(image, files)

    def attached(self, image: str, file: str) -> Path | None:
        """Return the path of an attached file, or None."""
        return self._images.attached(image, file)

    @property
    def _choice(self) -> Choice:
        """The first choice once QEMU is installed: it must not change in the middle of a bake."""
        if self._chosen:
            return self._chosen
        found = choose(self._store.folder / "accelerator.json", self._wanted)
        if which(qemu.PROGRAM):
            self._chosen = found
        return found

    def _check_accelerator(self) -> None:
        """Check the accelerator that the user has chosen, if QEMU is installed. UsageError: it does not work here."""
        if self._wanted:
            _ = self._choice

    def _serve(self, ticket: Ticket) -> bool:
        """Carry out a ticket for a guest that now waits."""
        folder = self._store.machine(ticket.name)
        record = read_record(folder)
        if record is None:
            raise NotFoundError(f"machine {ticket.name!r} not found on local", next_step="See: ./inv machines")
        if ticket.verb == "freeze":
            freeze(self._store, record, self.accelerator)
        elif ticket.verb == "keep-layer":
            note = partial(self._machines.set_backing_file, ticket.name)
            self._layers.keep(record, self.accelerator, **json.loads(ticket.operation), note=note)
        else:
            give_order(folder, order(folder, record))
        return True

    def _difference(self, spec: BootSpec, folder: Path) -> str:
        return difference(folder, shape(new_record(spec, created_at=0), self.accelerator))

    @contextmanager
    def _machine_folder(self, machine: str) -> Iterator[Path]:
        """Yield a machine's folder. NotFoundError: there is no such machine, or it is being removed."""
        try:
            yield self._store.machine(machine)
        except FileNotFoundError as error:
            raise NotFoundError(f"machine {machine!r} not found on local", next_step="See: ./inv machines") from error

    def _told(self) -> AbstractContextManager[None]:
        """Turn errors of this computer into CloudErrors, as the Protocols promise."""
        return as_cloud_errors(self._store.folder)


def _say_nothing(_: str) -> None:
    """Ignore a progress line."""
