"""What only some clouds can: a Protocol for each such ability, of few operations. The rest of Bakehouse asks with isinstance.

`clouds.driver` has what every cloud can, and the manners of all operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from clouds.driver import START, Base, BaseImage, BootSpec, ConsoleText, Endpoint, Position, Ticket


@dataclass(frozen=True, slots=True)
class Layer:
    """A builder's disk as it was at a checkpoint, to start another builder from.

    `key` is the digest of everything up to there; `step` names the checkpoint and `own` is the digest of that step alone.
    `parent` is the key of the checkpoint before, "" for the first, whatever disk the layer lies on.
    `used_at` is in seconds since the epoch; `size_bytes` is what it occupies, its memory included; `disk_gb` is rounded up.
    """

    id: str
    key: str
    step: str
    own: str
    parent: str
    used_at: float
    size_bytes: int
    disk_gb: int
    cpus: int
    memory_mb: int


@runtime_checkable
class EndsMachines(Protocol):
    """A cloud that itself ends a machine at `BootSpec.deadline_s`, whatever becomes of its guest.

    Elsewhere the timer in the guest is all that ends it, and a launch says so.
    """

    ends_machines: Literal[True]


@runtime_checkable
class Suspends(Protocol):
    """A cloud that can keep the memory of a machine that is off; `start` goes on from there, `stop` gives it up."""

    def suspend(self, machine: str) -> Ticket:
        """Freeze a running machine with its memory and switch it off."""

    def resumed_for_s(self, machine: str) -> float | None:
        """Return after how many seconds at most the cloud ends a suspended machine once it is resumed, whatever `start` says.

        None: as `start` says. NotFoundError when there is none.
        """


@runtime_checkable
class ChecksComputer(Protocol):
    """A cloud whose machines cannot run on every computer.

    It is no part of RunsHere: before Python 3.12 isinstance() reads the properties of that one, which may start QEMU.
    """

    def check_computer(self) -> None:
        """Raise MissingToolError, which says what to use instead, where machines cannot run on this computer."""


@runtime_checkable
class RunsHere(Protocol):
    """A cloud whose machines run on this computer, as fast as it lets them."""

    @property
    def accelerator_name(self) -> str:
        """What machines run on: kvm, or tcg, which emulates."""

    def notices(self) -> list[str]:
        """Return why machines are slower than they could be, or cannot download, and what to do: a line each, or nothing."""

    def logout_notices(self) -> list[str]:
        """Return that a machine started now ends when you log out and what to do, one line; nothing where it keeps running."""


@runtime_checkable
class KeepsMemory(Protocol):
    """A cloud whose images can carry the memory of a machine that has booted; a launch goes on from it and boots nothing."""

    def freeze(self, machine: str, image: str) -> Ticket:
        """Give an image the memory of a machine that was booted from it and `freezes`; the machine is off then, for good."""

    def unfit(self, spec: BootSpec) -> str:
        """Return why such a machine cannot go on from the memory of its image, in a few words; "" when it can."""

    def restore(self, spec: BootSpec) -> Ticket:
        """Create a machine that goes on from the memory of its image.

        Done once it has taken the facts and is its own; nothing of it can be reached before. RestoreError, also from
        `check`: it did not come to itself. The machine is there then, and is to be deleted.
        """

    def memory_bytes(self, image: str) -> int:
        """Return what the memory of an image occupies; 0: it has none."""


@runtime_checkable
class KeepsLayers(Protocol):
    """A cloud that can freeze the disk of a builder at each checkpoint, and start builders from there.

    There a builder's script ends at each checkpoint but the last, and the builder waits. `BootSpec.source` may be the
    id of a layer; what of the script is done already is skipped.
    """

    def layers(self) -> list[Layer]:
        """Return the layers that are kept, the one that was used longest ago first."""

    def keep_layer(self, machine: str, *, key: str, parent: str, step: str, own: str) -> Ticket:
        """Freeze the disk of a builder that waits; it goes on waiting. CloudError: there is no layer, and the builder is as before.

        BakeError: it has failed when the builder had half a new disk, and nothing can be made of that any more.
        """

    def go_on(self, machine: str, script: str) -> Ticket:
        """Let a builder that waits run a script: that of its boot, filled in the same way."""

    def remove_layer(self, layer: str) -> bool:
        """Remove a layer; say False when a builder or another layer needs it. Absent is a success."""


@runtime_checkable
class BuildsBases(Protocol):
    """A cloud whose bases are built here, which takes minutes."""

    def kept_base(self, base: Base) -> BaseImage | None:
        """Return the base that a bake would start from, or None: it would have to be built first."""


@runtime_checkable
class PreparesHere(Protocol):
    """A cloud that prepares things in folders of this computer, where a command that is killed leaves half of them."""

    def sweep(self) -> None:
        """Remove what dead processes were preparing or removing, and layers that are damaged."""


@runtime_checkable
class StreamsLog(Protocol):
    """A cloud with a second channel, on which a builder streams the full output of its steps."""

    def log(self, machine: str, since: Position = START) -> ConsoleText:
        """Return what the steps printed after a position that an earlier call has returned."""


@runtime_checkable
class Admits(Protocol):
    """A cloud whose firewall admits chosen addresses to a machine."""

    def admit(self, machine: str, source: str = "") -> str:
        """Let an address or range (CIDR), else the address that this computer has now, reach a machine.

        Return what has changed, one line for the user, or "". The addresses before are shut out.
        """


@runtime_checkable
class ReceivesFiles(Protocol):
    """A cloud that lets the caller reach the SSH server of a builder for as long as a bake sends it files.

    The builder was booted with `BootSpec.receives`. It runs an SSH server of its own on port 22, for one key and SFTP only, and
    tells its host key by a marker; `open_ssh` is called after that. `Cloud.address(machine, 22)` is where it then answers.
    Deleting the machine also removes what `open_ssh` has made; what a dead client left of it is listed by `owned` and removed by
    gc, so it carries the machine's labels.
    """

    def open_ssh(self, machine: str) -> Ticket:
        """Let the address that launches admit (the setting `source`, else that of this computer) reach port 22 of a builder.

        Open already is a success. NotFoundError: the machine is absent.
        """

    def close_ssh(self, machine: str) -> Ticket:
        """Let nobody reach port 22 of a builder any more. Closed already, or an absent machine, is a success."""


@runtime_checkable
class OpensShell(Protocol):
    """A cloud that can let its owner into a builder, which otherwise has no way in."""

    def open_shell(self, machine: str, public_key: str) -> Endpoint:
        """Admit root by this SSH key and return where SSH answers."""


class DiskFiles(Protocol):
    """The files of a disk that is not running, read from outside."""

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of every regular file, by absolute path."""

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return the start of each of these files, by path, in one pass; a path without a file is left out."""


@runtime_checkable
class ReadsDisks(Protocol):
    """A cloud that can look into a finished image from outside."""

    def files(self, image: str, scratch: Path) -> DiskFiles:
        """Open an image for reading; `scratch` is a folder for temporary copies that the caller removes."""


@runtime_checkable
class KeepsFiles(Protocol):
    """A cloud that keeps files (logs, manifest) beside an image."""

    def attach(self, image: str, files: Mapping[str, Path]) -> None:
        """Copy files beside an image, under the given names, each whole or not at all."""

    def attached(self, image: str, file: str) -> Path | None:
        """Return where such a file lies, or None."""
