"""A cloud in memory: instant, readable from outside, able to fail before and after each operation.

`FakeCloud` is one client of a `World`, which is what the cloud holds. A test that kills a client goes on with a second
`FakeCloud` on the same world, as a second command on the same computer would.
"""

from __future__ import annotations

import itertools
import re
import shutil
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

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
    State,
    Tell,
    Ticket,
)
from clouds.errors import ConflictError, InvalidError, NotFoundError, machine_exists
from clouds.incomplete import whole
from launcher.packages import IN_IMAGE
from tests import fake_services
from tests.fake_guest import Guest, Played, marker, play, read_receiver
from tests.fake_world import Image, Machine, Receiving, World

OPERATIONS = (
    "resolve_base",
    "boot",
    "start",
    "stop",
    "snapshot",
    "check",
    "console",
    "find",
    "owned",
    "label",
    "delete",
    "address",
    "log",
    "files",
    "attach",
    "attached",
    "suspend",
    "layers",
    "keep_layer",
    "go_on",
    "remove_layer",
    "freeze",
    "unfit",
    "restore",
    "memory_bytes",
    "open_ssh",
    "close_ssh",
)

SSH_PORT = 22

_CURL = b'{"name": "curl", "version": "8.14.1-2", "purl": "pkg:deb/debian/curl@8.14.1-2?upstream=curl%408.14.1-2"}'
PACKAGES = b'{"components": [%s]}' % _CURL
SEALED = {
    IN_IMAGE: PACKAGES,
    "/usr/lib/os-release": b"ID=debian\n",
    "/var/lib/dpkg/info/base-files.list": f"/usr/lib/os-release\n{IN_IMAGE}\n".encode(),
    "/etc/machine-id": b"",
}
"""A sealed disk. Packages list its files, so that no bake runs the scanner for them, which takes a second."""

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_.-]{0,63}")


class Killed(BaseException):
    """Stands for SIGKILL: the client that meets it can do nothing more in its cloud, nor clean up."""


def interrupt() -> None:
    """Press Ctrl-C: a real SIGINT to this process."""
    signal.raise_signal(signal.SIGINT)


@dataclass(slots=True)
class _Fault:
    operation: str
    when: str
    error: BaseException | Callable[[], None]
    nth: int | None
    seen: int = 0

    def is_due(self, operation: str) -> bool:
        if operation != self.operation:
            return False
        self.seen += 1
        return self.nth is None or self.seen == self.nth

    def strike(self) -> None:
        if isinstance(self.error, BaseException):
            raise self.error
        self.error()


class FakeDisk:
    """The files of an image's disk."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def list(self) -> Mapping[str, int]:
        """Return the sizes by path."""
        return {path: len(content) for path, content in self._files.items()}

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return the start of those files that there are."""
        return {path: self._files[path][:limit_bytes] for path in paths if path in self._files}


class FakeCloud:
    """One client of a `World`: a driver like the others, with every Protocol but a shell."""

    name = "fake"
    account = ""
    grants: frozenset[str] = frozenset()
    limits = Limits()
    ends_machines: Literal[True] = True
    overlays_images: Literal[True] = True
    is_remote = False
    stopped_costs = ""
    slowness = 1.0
    piece_bytes: int | None = None
    """How much of a console comes at once; None: all."""
    waits = False
    """Whether builders wait at each checkpoint."""
    console_bytes: int | None = None
    """How much of a console's end is kept (None: all of it)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[str] = []
        self.unreachable: set[str] = set()
        """The zones whose machines cannot be asked after."""
        self._faults: list[_Fault] = []
        self._dead = False

    # What tests say to it

    def fault(
        self, operation: str, *, when: str = "before", error: BaseException | Callable[[], None], nth: int | None = 1
    ) -> None:
        """Let the nth call of an operation (each, with None) fail before or after its effect: `error` is raised, or called."""
        assert operation in OPERATIONS, operation
        assert when in ("before", "after"), when
        self._faults.append(_Fault(operation, when, error, nth))

    def guest(self, pattern: str, *guests: Guest) -> None:
        """Say how the boots of machines with such a name go, one after the other; the last one for all that follow."""
        self.world.guests.append((pattern, itertools.chain(guests, itertools.repeat(guests[-1]))))

    # The driver

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        with self._operation("resolve_base", base.suite):
            if refresh:
                self.world.base_serial += 1
                if tell:
                    tell(f"base {base.suite}: made anew")
            return BaseImage(f"base-{base.suite}-{base.architecture}-{self.world.base_serial}", "fake", base)

    def boot(self, spec: BootSpec) -> Ticket:
        with self._operation("boot", spec.name):
            if not self._is_there(spec):
                disk = self._source_disk(spec.source)
                made = Machine(spec, dict(spec.labels), dict(spec.facts), disk, now(), unseen=self.world.unseen)
                self.world.machines[spec.name] = made
                self._run_guest(spec.name)
            return Ticket("boot", Kind.MACHINE, spec.name)

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        with self._operation("start", machine):
            found = self._machine(machine)
            if found.state is not State.RUNNING:
                found.spec = replace(found.spec, deadline_s=deadline_s)
                found.facts |= facts
                found.state = State.RUNNING
                self._run_guest(machine)
            return Ticket("start", Kind.MACHINE, machine)

    def stop(self, machine: str) -> Ticket:
        with self._operation("stop", machine):
            self._machine(machine).state = State.STOPPED
            return Ticket("stop", Kind.MACHINE, machine)

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        with self._operation("snapshot", image):
            found = self._machine(machine)
            if image in self.world.images:
                raise ConflictError(f"image {image!r} already exists")
            if found.state is not State.STOPPED:
                raise InvalidError(f"machine {machine!r} is still running", next_step=f"Stop it first: ./inv stop {machine}")
            _check_labels(labels)
            self.world.images[image] = Image(dict(labels), dict(found.disk), now(), unseen=self.world.unseen)
            return Ticket("snapshot", Kind.IMAGE, image)

    def check(self, ticket: Ticket) -> bool:
        with self._operation("check", f"{ticket.verb} {ticket.name}"):
            if ticket.verb == "snapshot" and ticket.name in self.world.images:
                self.world.images[ticket.name].state = State.READY
            return True

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        with self._operation("console", machine):
            self._receive(machine)
            return _piece(self._machine(machine).console, since, self.console_bytes, self.piece_bytes)

    def find(self, kind: Kind, name: str) -> Resource | None:
        with self._operation("find", name):
            found = [one for one in self._reachable() if (one.kind, one.name) == (kind, name)]
            return next(iter(found or whole(f"{kind} {name}", (), self.unreachable if kind is Kind.MACHINE else ())), None)

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        with self._operation("owned", ""):
            found = [one for one in self._reachable() if one.kind in kinds and labels.items() <= one.labels.items()]
            found.sort(key=lambda resource: resource.created_at)
            return whole(f"resources of {self.name}", found, self.unreachable if Kind.MACHINE in kinds else ())

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        with self._operation("label", name):
            _check_labels(labels)
            self._thing(kind, name).labels.update(labels)

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        with self._operation("delete", name):
            if not self._is_seen(self.world.machines.get(name) if kind is Kind.MACHINE else self.world.images.get(name)):
                return Ticket("delete", kind, name)
            if kind is Kind.MACHINE:
                self.world.machines.pop(name, None)
                self.world.open_to_ssh.discard(name)
            elif kind is Kind.IMAGE:
                if users := [user for user, machine in self.world.machines.items() if machine.spec.source == name]:
                    raise ConflictError(
                        f"image {name!r} is in use by machine {users[0]}", next_step=f"Delete it first: ./inv delete {users[0]}"
                    )
                self.world.images.pop(name, None)
            return Ticket("delete", kind, name)

    def address(self, machine: str, port: int) -> Endpoint:
        with self._operation("address", machine):
            if port == SSH_PORT and machine in self.world.open_to_ssh:
                return fake_services.ssh()
            if port not in self._machine(machine).spec.ports:
                raise InvalidError(f"port {port} of machine {machine!r} is not forwarded")
            if port == SSH_PORT:
                return fake_services.ssh()
            if (machine, port) not in self.world.addresses:
                tls = port == self._machine(machine).spec.wishes.https_port
                self.world.addresses[machine, port] = fake_services.notebook(
                    lambda: self._machine(machine).facts["PASSWORD_HASH"], tls=tls
                )
            return self.world.addresses[machine, port]

    def open_ssh(self, machine: str) -> Ticket:
        with self._operation("open_ssh", machine):
            assert self._machine(machine).spec.receives
            self.world.open_to_ssh.add(machine)
            return Ticket("open-ssh", Kind.MACHINE, machine)

    def close_ssh(self, machine: str) -> Ticket:
        with self._operation("close_ssh", machine):
            self.world.open_to_ssh.discard(machine)
            return Ticket("close-ssh", Kind.MACHINE, machine)

    def log(self, machine: str, since: Position = START) -> ConsoleText:
        with self._operation("log", machine):
            return _piece(self._machine(machine).log, since)

    def files(self, image: str, scratch: Path) -> FakeDisk:
        with self._operation("files", image):
            assert scratch.is_dir()
            return FakeDisk(self._image(image).disk)

    def attach(self, image: str, files: Mapping[str, Path]) -> None:
        with self._operation("attach", image):
            folder = self.world.folder / image
            folder.mkdir(parents=True, exist_ok=True)
            for name, path in files.items():
                self._image(image).attached[name] = Path(shutil.copyfile(path, folder / name))

    def attached(self, image: str, file: str) -> Path | None:
        with self._operation("attached", image):
            found = self.world.images.get(image)
            return found.attached.get(file) if found else None

    # How it is made

    @contextmanager
    def _operation(self, operation: str, name: str) -> Iterator[None]:
        if self._dead:
            raise Killed
        self.calls.append(f"{operation} {name}".strip())
        due = [fault for fault in self._faults if fault.is_due(operation)]
        self._strike(due, "before")
        yield
        self._strike(due, "after")

    def _strike(self, due: Sequence[_Fault], when: str) -> None:
        for fault in due:
            if fault.when == when:
                self._dead = self._dead or isinstance(fault.error, Killed)
                fault.strike()

    def _is_there(self, spec: BootSpec) -> bool:
        """Return whether this machine exists. ConflictError: another one has its name. InvalidError: its labels are not valid."""
        there = self.world.machines.get(spec.name)
        if there and there.spec.token != spec.token:
            raise machine_exists(spec.name, self.name)
        _check_labels(spec.labels)
        return there is not None

    def _machine(self, name: str) -> Machine:
        if not self._is_seen(self.world.machines.get(name)):
            raise NotFoundError(f"machine {name!r} not found on {self.name}", next_step="See: ./inv machines")
        return self.world.machines[name]

    def _image(self, name: str) -> Image:
        if not self._is_seen(self.world.images.get(name)):
            raise NotFoundError(f"image {name!r} not found on {self.name}", next_step="See: ./inv images")
        return self.world.images[name]

    def _thing(self, kind: Kind, name: str) -> Machine | Image:
        return self._machine(name) if kind is Kind.MACHINE else self._image(name)

    def _is_seen(self, thing: Machine | Image | None) -> bool:
        """Say whether a call that looks a thing up finds it; one more of those that do not has been made otherwise."""
        if thing is None or thing.unseen:
            if thing:
                thing.unseen -= 1
            return False
        return True

    def _reachable(self) -> Iterator[Resource]:
        return (one for one in self._resources() if one.kind is not Kind.MACHINE or one.zone not in self.unreachable)

    def _resources(self) -> Iterator[Resource]:
        for name, machine in self.world.machines.items():
            if not self._is_seen(machine):
                continue
            yield Resource(Kind.MACHINE, name, machine.state, dict(machine.labels), machine.created_at, zone=machine.spec.zone)
        for name, image in self.world.images.items():
            if not self._is_seen(image):
                continue
            size_bytes = sum(map(len, image.disk.values()))
            yield Resource(Kind.IMAGE, name, image.state, dict(image.labels), image.created_at, size_bytes)

    def _source_disk(self, source: str) -> dict[str, bytes]:
        if source.startswith("base-"):
            return {**SEALED, "/usr/lib/os-release": f"ID=debian\nBUILD_ID={source}\n".encode()}
        image = self._image(source)
        if image.state is not State.READY:
            raise InvalidError(f"image {source}: not finished")
        return dict(image.disk)

    def _run_guest(self, name: str) -> None:
        machine = self.world.machines[name]
        machine.guest = self.world.guest_of(name)

        def boot(script: str) -> Played:
            return play(
                machine.guest,
                name=name,
                script=script,
                facts=machine.facts,
                disk=machine.disk,
                archive=self.world.archive,
                waits=self.waits,
            )

        self.run_script(name, machine.spec.script, boot)

    def run_script(self, name: str, script: str, run: Callable[[str], Played]) -> None:
        """Let a guest run a script, or wait for the one that it is to receive, of which it tells."""
        machine = self.world.machines[name]
        received = read_receiver(script)
        if received is None:
            take(machine, run(script))
            return
        host_key = f"ssh-ed25519 AAAAFake{next(_ticks):040}"
        self.world.builders.listen(name, list(received.names), host_key)
        machine.console += (marker(received.nonce, f"fact host-key {host_key}") + "\r\n").encode() * 2
        machine.receiving = Receiving(received, run)
        machine.state, machine.waits = State.RUNNING, False

    def _receive(self, name: str) -> None:
        """Go on where a guest has received everything."""
        machine = self.world.machines.get(name)
        if machine and machine.receiving and self.world.builders.has_everything(name):
            received, machine.receiving = machine.receiving, None
            take(machine, received.run(received.script.run(self.world.builders.close(name))))


def take(machine: Machine, played: Played) -> None:
    """Let a machine be as its guest has left it."""
    machine.console += played.console.encode()
    machine.log += played.log.encode()
    machine.disk = dict(played.disk)
    machine.state = State.RUNNING if played.is_on else State.STOPPED
    machine.waits = played.waits


def _piece(text: bytes, since: Position, window_bytes: int | None = None, limit: int | None = None) -> ConsoleText:
    """Return up to `limit` bytes that were printed after a position, of the last `window_bytes`.

    A position is written so that nobody else can count with it.
    """
    offset = int(since.removeprefix("after-"), 16) if since else 0
    kept_from = max(0, len(text) - window_bytes) if window_bytes is not None else 0
    begin = min(max(offset, kept_from), len(text))
    piece = text[begin:][:limit]
    return ConsoleText(piece.decode(errors="replace"), Position(f"after-{begin + len(piece):x}"), lost=kept_from > offset)


def _check_labels(labels: Mapping[str, str]) -> None:
    """Refuse what some cloud would refuse."""
    for key, value in labels.items():
        if not (_LABEL.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise InvalidError(f"label {key}={value!r}: not a label that every cloud takes")


_ticks = itertools.count()


def now() -> float:
    """Return the time, never the same one twice: what was made first sorts first."""
    return time.time() + next(_ticks) * 1e-6
