"""What a cloud is to the rest of Bakehouse: a few records, and Protocols of few operations.

A driver takes and returns these records only. It never prints and never sleeps; an operation that takes
long returns a `Ticket`, and the one waiter (`clouds.waiter`) asks `check(ticket)` until it is done.
The caller chooses every name and token, so that whatever was started can be found again even when
starting it raised. The same verb does the same thing on each cloud: tests/contract holds every driver
and the fake to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NewType, Protocol

Tell = Callable[[str], None]
"""Receives one line of news from a long operation."""


class Kind(StrEnum):
    """The kinds of things that a cloud keeps for us, and bills."""

    MACHINE = "machine"
    IMAGE = "image"
    DISK = "disk"
    RULE = "rule"
    ADDRESS = "address"


EVERY_KIND = frozenset(Kind)


class State(StrEnum):
    """The state of a resource; an image is PENDING or READY (candidate or stable is a label of it)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    PENDING = "pending"
    READY = "ready"
    BROKEN = "broken"
    """What is known of it cannot be read; it can be deleted."""


class End(StrEnum):
    """What becomes of a machine at its deadline, or when the cloud takes its spare capacity back."""

    STOP = "stop"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Base:
    """The system that a recipe starts from, as its author names it."""

    suite: str
    architecture: str


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The exact image behind a `Base`: `id` changes whenever its content does; `owner` is who made it.

    No machine can have a smaller disk than `disk_gb`.
    """

    id: str
    owner: str
    base: Base
    disk_gb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What only some clouds can give a machine; `Cloud.grants` names those that one can.

    `machine_type` takes the place of processors and memory. A machine of `spot` capacity is cheap and may be taken away,
    then `on_preempt` says what becomes of it. `static_ip` names an address that is reserved once and kept. `https_port`
    is opened to the caller's address besides SSH.
    """

    machine_type: str = ""
    spot: bool = False
    on_preempt: End = End.STOP
    disk_type: str = ""
    static_ip: str = ""
    no_public_ip: bool = False
    https_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSpec:
    """One machine to create and start.

    `source` is a `BaseImage.id` or the name of an image. `script` is run as root at each boot. `facts` are
    told to the machine as its identity (keys: UPPER_CASE, see templates/machine/identity.py.j2). `ports` are the ports
    in the guest that the caller must reach. `deadline_s`: a cloud that `EndsMachines` ends the machine after that many
    seconds, whatever becomes of us (0 = never); `at_deadline` says how, where a cloud can do either. `zone` is the part of
    the cloud to try ("" = where its settings say). With `build_settings` the host's mirrors, proxies, package indexes
    and CA certificates reach the guest, for this boot only. A machine that `freezes` takes no identity: it starts its
    services, tells `fact ready memory` with the NONCE of its facts, and waits for `KeepsMemory.freeze`.
    A machine that `receives` is a builder to which files are sent over SSH: what `ReceivesFiles.open_ssh` needs is prepared (a
    network tag, a security group of its own), and nothing is open yet.
    """

    name: str
    token: str
    source: str
    cpus: int
    memory_mb: int
    disk_gb: int
    labels: Mapping[str, str]
    deadline_s: int
    at_deadline: End = End.STOP
    zone: str = ""
    wishes: Wishes = field(default_factory=Wishes)
    script: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    build_settings: bool = False
    freezes: bool = False
    receives: bool = False


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing in a cloud. `created_at` is in seconds since the epoch; `size_bytes` is what it occupies; `zone` is where it is."""

    kind: Kind
    name: str
    state: State
    labels: Mapping[str, str]
    created_at: float = 0.0
    size_bytes: int = 0
    zone: str = ""


Verb = Literal[
    "boot", "start", "stop", "suspend", "snapshot", "delete", "freeze", "restore", "keep-layer", "go-on", "open-ssh", "close-ssh"
]
"""What a ticket is for."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An operation that a cloud has accepted: verb, kind and name of its object, and what the cloud calls the operation.

    It is all that `Cloud.check` needs, so that another process, which reads it in the ledger, can ask about the operation too.
    """

    verb: Verb
    kind: Kind
    name: str
    operation: str = ""


Position = NewType("Position", str)
"""A place in the output of a machine. Only the driver that returns one can interpret it; others compare it for equality."""

START = Position("")
"""The begin of the output, as far back as the cloud keeps it."""


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """A piece of console output, and the position to read on from; it stays the same while nothing new is printed.

    `lost`: output between the position that was asked for and `text` is missing, since the cloud keeps it no more.
    """

    text: str
    position: Position
    lost: bool = False


PIECE_BYTES = 65536
"""A piece of console that is shorter than this, in characters, ends where the console ended when it was read."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a port of a machine answers for its owner."""

    host: str
    port: int


OPERATION_S = 30.0
"""How long an operation may take, in seconds, where neither its cloud nor its verb says otherwise."""
OPERATIONS_S = {"stop": 60.0, "snapshot": 300.0}
"""How long it may take by the verb of its ticket: a guest shuts down in order, a disk is copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How slow a cloud may be, in seconds, and how large a script it takes.

    `operations_s`: how long an operation may take, by the verb of its ticket, where it takes longer than elsewhere.
    `poll_max_s`: how far apart questions may grow while nothing happens; a request to a remote cloud counts against a quota.
    `unseen_s`: for how long after a create `find`, `owned` and all that looks a name up may not see what was created, so that
    "not found" is no proof (EC2: boto/boto3#2556, ansible-collections/amazon.aws#1810); 0: they see it at once.
    `script_bytes`: the largest `BootSpec.script` (or script of `KeepsLayers.go_on`), in bytes; 0: any. It is what the vendor
    allows less what the driver adds. `compresses_script`: the driver compresses scripts with gzip, and the limit counts them so.
    A bake whose script is larger sends it over SSH (`ReceivesFiles`); its builder boots with a script of some 4 KB.
    """

    operations_s: Mapping[str, float] = field(default_factory=dict)
    poll_max_s: float = 0.0
    unseen_s: float = 0.0
    script_bytes: int = 0
    compresses_script: bool = False

    def operation_s(self, verb: str) -> float:
        """Return how long an operation with this verb may take; whoever waits multiplies it by the cloud's slowness."""
        return max(self.operations_s.get(verb, 0), OPERATIONS_S.get(verb, OPERATION_S))


class Cloud(Protocol):
    """What every cloud does. What only some can is in `clouds.capabilities`."""

    name: str

    @property
    def account(self) -> str:
        """The account (project) that machines and images belong to; "" where a cloud has no accounts."""

    grants: frozenset[str]
    """The fields of `Wishes` that this cloud can fulfil."""

    @property
    def limits(self) -> Limits:
        """How long it may take for what it does."""

    is_remote: bool
    """Whether only SSH and `Wishes.https_port` answer directly, so that any other port needs a tunnel through SSH."""
    stopped_costs: str
    """What a machine that is off still costs, in words; "" for nothing."""

    @property
    def slowness(self) -> float:
        """How many times slower a guest runs than on hardware of its own; deadlines are multiplied by it."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return the exact image behind a base; kept until `refresh` asks anew (then `tell` hears of progress)."""

    def boot(self, spec: BootSpec) -> Ticket:
        """Create a machine and start it. ConflictError: the name is taken (same token: the same machine).

        CapacityError, here or from `check`, names the zones that are worth a try.
        """

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        """Start a stopped machine; `facts` are laid over those it has. One that is on stays as it is, or goes on if it is paused.

        NotFoundError when there is none.
        """

    def stop(self, machine: str) -> Ticket:
        """Ask a machine to shut down in order. A machine that is stopped already is a success."""

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        """Make an image of a stopped machine's disk. ConflictError when the image's name is taken."""

    def check(self, ticket: Ticket) -> bool:
        """Return whether the operation has ended well; raise its classified error when it has ended badly."""

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        """Return what the serial console printed after a position that an earlier call has returned.

        That is all of it, or a piece of PIECE_BYTES at least.
        """

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Return one resource, or None when it is absent. UnreachableError: a part of the cloud that did not answer may have it."""

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        """Return every resource of these kinds that carries all these labels, oldest first, half-made ones too.

        UnreachableError: a part of the cloud did not answer; `found` is the list of what the rest holds.
        """

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Lay labels over those that a resource has. NotFoundError when it is absent."""

    def delete(self, kind: Kind, name: str) -> Ticket:
        """Delete a resource at once, running or not, and all that belongs to it. Absent is a success."""

    def address(self, machine: str, port: int) -> Endpoint:
        """Return where a port of the guest answers on this computer or from it."""
