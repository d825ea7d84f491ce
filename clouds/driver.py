"""The interface of every cloud: a few records and a Protocol.

A driver takes and returns only these records. It never prints or sleeps; a long operation returns a
`Ticket`, and the waiter (`clouds.waiter`) calls `check(ticket)` until it is done. The caller chooses every
name and token, so that a resource can be found even if the request that created it raised an error. The
same method does the same thing on each cloud: tests/contract checks this for all drivers and the fake.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NewType, Protocol

Tell = Callable[[str], None]
"""Receives a line of progress from a long operation."""


class Kind(StrEnum):
    """The kinds of resources, each of which a cloud may bill."""

    MACHINE = "machine"
    IMAGE = "image"
    DISK = "disk"
    RULE = "rule"
    ADDRESS = "address"


EVERY_KIND = frozenset(Kind)


class State(StrEnum):
    """The state of a resource; an image is PENDING, READY or BROKEN (candidate or stable is a label)."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    SUSPENDED = "suspended"
    PENDING = "pending"
    READY = "ready"
    BROKEN = "broken"
    """Its record cannot be read; it can only be deleted."""


class End(StrEnum):
    """What happens to a machine at its deadline, or when the cloud preempts it."""

    STOP = "stop"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Base:
    """The operating system that a recipe starts from.

    `packages` are Debian packages that it contains in addition, sorted; only for a cloud that `InstallsInBases`.
    """

    suite: str
    architecture: str
    packages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The exact image behind a `Base`: `id` changes whenever its content does; `owner` is its publisher.

    `base` may lack packages that were requested (`InstallsInBases`). `disk_gb` is the smallest disk that a machine can have.
    """

    id: str
    owner: str
    base: Base
    disk_gb: int = 0


@dataclass(frozen=True, slots=True)
class Gpu:
    """A number of GPUs of one model of NVIDIA, such as t4 or a100."""

    model: str
    count: int = 1

    def __str__(self) -> str:
        return f"{self.model}:{self.count}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Options of a machine that only some clouds support; `Cloud.grants` has the names of those that one does.

    `machine_type` replaces the number of processors and the memory size. With `gpu`, the caller of `boot` sets it to the result of
    `clouds.capabilities.OffersGpus.gpu_type`. A `spot` machine is cheap and may be preempted;
    `on_preempt` is what happens to it then (None: it is stopped); `max_price_usd` is the most that an hour of it may cost, in US
    dollars (0: no limit of the user's). `keep_disk`: the disk outlives the machine (`clouds.capabilities.KeepsDisks`). `static_ip`
    names an address that is reserved once and kept. `https_port` is opened to the caller's address in addition to SSH; locally it
    is one of this computer.
    """

    machine_type: str = ""
    gpu: Gpu | None = None
    spot: bool = False
    on_preempt: End | None = None
    max_price_usd: float = 0.0
    disk_type: str = ""
    keep_disk: bool = False
    static_ip: str = ""
    no_public_ip: bool = False
    https_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BootSpec:
    """A machine to create and start.

    `source` is a `BaseImage.id` or the name of an image. `script` is run as root at each boot. `facts` are the machine's
    identity (keys: UPPER_CASE, see templates/machine/identity.py.j2). `ports` are the ports in the guest that the caller must
    reach. `deadline_s`: a cloud that `EndsMachines` ends the machine after that many seconds, even if the client is dead
    (0: never); `at_deadline` is how, on clouds with both. `zone` is the part of the cloud to try ("": from its settings).
    With `build_settings` the guest gets the host's mirrors, proxies, package indexes and CA certificates, for this boot only.
    A machine that `freezes` takes no identity: it starts its services, reports `fact ready memory` with the NONCE of its facts,
    and waits for `KeepsMemory.freeze`.
    A machine that `receives` is a builder to which files are sent over SSH: what `ReceivesFiles.open_ssh` needs is prepared (a
    network tag, a security group of its own), but nothing is open yet.
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
    """A resource in a cloud. `created_at` is in seconds since the epoch; `size_bytes` is its size there; `zone` is its location.

    `type` is that of a disk, in the cloud's words, by which it is billed.
    """

    kind: Kind
    name: str
    state: State
    labels: Mapping[str, str]
    created_at: float = 0.0
    size_bytes: int = 0
    zone: str = ""
    type: str = ""


Verb = Literal[
    "boot", "start", "stop", "suspend", "snapshot", "delete", "freeze", "restore", "keep-layer", "go-on", "open-ssh", "close-ssh"
]
"""The operation that a ticket is for."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """An operation that a cloud has accepted: its verb, the kind and name of its resource, and the cloud's id for the operation.

    `Cloud.check` needs nothing else, so another process can read a ticket from the ledger and check the operation.
    """

    verb: Verb
    kind: Kind
    name: str
    operation: str = ""


Position = NewType("Position", str)
"""A place in the output of a machine. Only the driver that returns one can interpret it; others compare it for equality."""

START = Position("")
"""The start of the output, or of the part that the cloud still has."""


@dataclass(frozen=True, slots=True)
class ConsoleText:
    """A piece of console output, and the position of the next piece, which stays the same while nothing new is printed.

    `lost`: output between the requested position and `text` is missing, since the cloud no longer has it.
    """

    text: str
    position: Position
    lost: bool = False


PIECE_BYTES = 65536
"""A piece that is shorter than this, in characters, ends at the current end of the console."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address at which the owner reaches a port of a machine."""

    host: str
    port: int


OPERATION_S = 30.0
"""The default time limit of an operation, in seconds."""
OPERATIONS_S = {"stop": 60.0, "snapshot": 300.0}
"""The time limits of slower operations by verb, in seconds: a guest shuts down cleanly, a disk is copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The time limits of a cloud, in seconds, and the largest script it takes.

    `operations_s`: time limits of operations that take longer than on other clouds, by verb.
    `poll_max_s`: the longest interval between polls; set on a remote cloud, where each request counts against a quota.
    `unseen_s`: how long a new resource may be missing from `find`, `owned` and other lookups, so that "not found" proves
    nothing (EC2: boto/boto3#2556, ansible-collections/amazon.aws#1810); 0: it is visible at once.
    `listed_when_done`: the operation that creates a resource has ended only once `find` finds the resource, if it still exists.
    `poll_s`: the first interval between polls of an operation; 0: a tenth of a second, or less on this computer.
    `script_bytes`: the largest `BootSpec.script` (or script of `KeepsLayers.go_on`), in bytes; 0: any. It is the vendor's limit
    less what the driver adds. `compresses_script`: the driver compresses scripts with gzip, and the limit applies to the result.
    A bake whose script is larger sends it over SSH (`ReceivesFiles`); its builder boots with a script of some 4 KB.
    """

    operations_s: Mapping[str, float] = field(default_factory=dict)
    poll_max_s: float = 0.0
    unseen_s: float = 0.0
    listed_when_done: bool = False
    poll_s: float = 0.0
    script_bytes: int = 0
    compresses_script: bool = False

    def operation_s(self, verb: str) -> float:
        """Return the time limit of an operation with this verb; callers multiply it by the cloud's slowness."""
        return max(self.operations_s.get(verb, 0), OPERATIONS_S.get(verb, OPERATION_S))


class Cloud(Protocol):
    """The operations of every cloud. Optional ones are in `clouds.capabilities`."""

    name: str

    @property
    def account(self) -> str:
        """The account (project) that machines and images belong to; "" where a cloud has no accounts."""

    grants: frozenset[str]
    """The fields of `Wishes` that this cloud supports."""

    @property
    def limits(self) -> Limits:
        """The time limits of its operations."""

    is_remote: bool
    """Whether only SSH and `Wishes.https_port` can be reached directly, and any other port needs an SSH tunnel."""
    stopped_costs: str
    """What a stopped machine is still billed for, in words; "" for nothing."""

    @property
    def slowness(self) -> float:
        """How many times slower a guest runs than on hardware; deadlines are multiplied by it."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        """Return the exact image behind a base; the result is stored until `refresh` (`tell` then receives progress)."""

    def boot(self, spec: BootSpec) -> Ticket:
        """Create a machine and start it. ConflictError: the name is taken (with the same token it is the same machine).

        CapacityError, here or from `check`, names zones that may have capacity.
        """

    def start(self, machine: str, *, deadline_s: int, facts: Mapping[str, str]) -> Ticket:
        """Start a stopped machine and update its `facts`. A running one is not changed; a paused one is resumed.

        NotFoundError: no such machine.
        """

    def stop(self, machine: str) -> Ticket:
        """Request a clean shutdown of a machine. A stopped machine is a success."""

    def snapshot(self, machine: str, image: str, labels: Mapping[str, str]) -> Ticket:
        """Create an image from a stopped machine's disk. ConflictError: the image's name is taken."""

    def check(self, ticket: Ticket) -> bool:
        """Return whether the operation has succeeded, False while it runs; raise its classified error if it has failed."""

    def console(self, machine: str, since: Position = START) -> ConsoleText:
        """Return the output of the serial console after a position that an earlier call has returned.

        It is all of it, or a piece of at least PIECE_BYTES.
        """

    def find(self, kind: Kind, name: str) -> Resource | None:
        """Return a resource, or None if it does not exist. UnreachableError: it may be in a part that did not respond."""

    def owned(self, labels: Mapping[str, str], kinds: Collection[Kind] = EVERY_KIND) -> list[Resource]:
        """Return all resources of these kinds with all these labels, oldest first, including unfinished ones.

        UnreachableError: a part of the cloud did not respond; `found` is the list for the rest.
        """

    def label(self, kind: Kind, name: str, labels: Mapping[str, str]) -> None:
        """Add or replace labels of a resource. NotFoundError: no such resource."""

    def delete(self, kind: Kind, name: str, zone: str = "") -> Ticket:
        """Delete a resource at once, running or not, with everything that belongs to it. No such resource is a success.

        `zone` is the `Resource.zone` of a disk or an address, whose name may be unique there only ("": wherever it is).
        ConflictError: several have this name.
        """

    def address(self, machine: str, port: int) -> Endpoint:
        """Return the address at which this computer reaches a port of the guest."""
