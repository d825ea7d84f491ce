"""What a cloud in memory holds: tests read and change it directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from clouds.capabilities import Layer
from clouds.driver import BootSpec, Endpoint, State
from tests.fake_guest import OK, Guest, Played, Receiver
from tests.fake_sftp import Store


@dataclass(slots=True)
class Machine:
    """A machine of the fake cloud, and what its guest has printed and left on its disk; one that `waits` takes a script.

    The next `unseen` calls that look it up do not find it.
    """

    spec: BootSpec
    labels: dict[str, str]
    facts: dict[str, str]
    disk: dict[str, bytes]
    created_at: float
    state: State = State.RUNNING
    console: bytes = b""
    log: bytes = b""
    guest: Guest = OK
    waits: bool = False
    unseen: int = 0
    receiving: Receiving | None = None


@dataclass(frozen=True, slots=True)
class Receiving:
    """What a guest that waits for a script knows of it, and what becomes of the machine once it runs that."""

    script: Receiver
    run: Callable[[str], Played]


@dataclass(slots=True)
class Image:
    """An image of the fake cloud; PENDING until somebody has checked the ticket of its snapshot.

    `memory_of` is the order of the machine whose memory it carries, on a cloud that keeps any.
    """

    labels: dict[str, str]
    disk: dict[str, bytes]
    created_at: float
    state: State = State.PENDING
    attached: dict[str, Path] = field(default_factory=dict)
    memory_of: BootSpec | None = None
    unseen: int = 0


@dataclass(slots=True)
class Kept:
    """A layer of the fake cloud; its disk overlays that of the layer, or base, `on`."""

    layer: Layer
    disk: dict[str, bytes]
    on: str = ""


@dataclass(slots=True)
class World:
    """What the cloud holds; tests read and change it directly. `folder` takes the files that are attached to images."""

    folder: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    guests: list[tuple[str, Iterator[Guest]]] = field(default_factory=list)
    layers: dict[str, Kept] = field(default_factory=dict)
    base_serial: int = 1
    archive: int = 1
    """Stands for the packages that there are for apt."""
    addresses: dict[tuple[str, int], Endpoint] = field(default_factory=dict)
    open_to_ssh: set[str] = field(default_factory=set)
    """The builders whose SSH server can be reached."""
    unseen: int = 0
    """How many calls do not find what is created from now on."""

    def inventory(self) -> list[str]:
        """Return everything that would be billed, as `kind name state` lines."""
        machines = [f"machine {name} {machine.state}" for name, machine in self.machines.items()]
        rules = [f"rule {name}" for name in sorted(self.open_to_ssh)]
        return machines + rules + [f"image {name} {image.state}" for name, image in self.images.items()]

    @property
    def builders(self) -> Store:
        """What builders receive."""
        return Store(self.folder / "builders")

    def guest_of(self, machine: str) -> Guest:
        """Return how the next boot of a machine is to go: the rule that was given last wins."""
        return next((next(guests) for pattern, guests in reversed(self.guests) if fnmatchcase(machine, pattern)), OK)
