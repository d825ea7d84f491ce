"""Optional capabilities of clouds: a small Protocol for each. Callers test for them with isinstance.

`clouds.driver` has the operations of every cloud, and the rules for all operations.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from clouds.driver import START, Base, BaseImage, BootSpec, Cloud, ConsoleText, Endpoint, Gpu, Position, Ticket, Wishes
from clouds.findings import Check, Size


@dataclass(frozen=True, slots=True)
class Layer:
    """A builder's disk at a checkpoint, from which another builder can start.

    `key` is the digest of everything up to the checkpoint; `step` names the checkpoint; `own` is the digest of that step alone.
    `parent` is the key of the previous checkpoint, "" for the first, whichever disk the layer overlays.
    `used_at` is in seconds since the epoch; `size_bytes` includes its saved memory; `disk_gb` is rounded up.
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
    """A cloud that itself stops a machine at `BootSpec.deadline_s`, even if its guest does not.

    On other clouds only the timer in the guest stops it, and a launch says so.
    """

    ends_machines: Literal[True]


@runtime_checkable
class EndsMachinesBySetting(Protocol):
    """A cloud that `EndsMachines` if one of its settings is set: the one with the key `ends_machines_by`."""

    ends_machines_by: str


@runtime_checkable
class ChecksOptions(Protocol):
    """A cloud that can check options of a machine before anything is created. On others, a wrong one fails at `boot`."""

    def check_options(self, wishes: Wishes) -> None:
        """Raise InvalidError for options that no machine can have, such as an unknown machine type; creates nothing."""


@runtime_checkable
class OffersGpus(Protocol):
    """A cloud that has machine types with GPUs."""

    def gpu_type(self, gpu: Gpu, cpus: int, memory_mb: int) -> str:
        """Return the smallest type with these GPUs, and at least so many processors and so much memory; sends no request.

        UsageError: the cloud has none.
        """

    def has_gpu(self, machine_type: str) -> bool:
        """Return whether a machine type has a GPU by itself; True also if that cannot be found out."""


@runtime_checkable
class ReclaimsSpot(Protocol):
    """A cloud that reports whether it has reclaimed the capacity of a spot machine."""

    def was_reclaimed(self, machine: str) -> bool:
        """Return whether the cloud has ended a spot machine; False also if it no longer knows the machine."""


@runtime_checkable
class ImagesRunningSpot(Protocol):
    """A cloud that cannot stop a spot machine which is deleted on preemption: `Cloud.snapshot` takes it while it is running.

    The cloud shuts the guest down for the image, so that its disk is as clean as that of a stopped machine.
    """

    images_running_spot: Literal[True]


@runtime_checkable
class Suspends(Protocol):
    """A cloud that can suspend a machine; `start` resumes it, `stop` discards its saved memory."""

    def suspend(self, machine: str) -> Ticket:
        """Save the memory of a running machine and power it off."""

    def resumed_for_s(self, machine: str) -> float | None:
        """Return after how many seconds the cloud stops a suspended machine once it is resumed, at the latest.

        None: at the deadline that `start` sets. NotFoundError: no such machine.
        """


@runtime_checkable
class ChecksComputer(Protocol):
    """A cloud whose machines cannot run on every computer.

    It is separate from RunsHere: before Python 3.12 isinstance() reads the properties of a Protocol, which may start QEMU.
    """

    def check_computer(self) -> None:
        """Raise MissingToolError, whose next step names an alternative, if machines cannot run on this computer."""


@runtime_checkable
class RunsHere(Protocol):
    """A cloud whose machines run on this computer."""

    @property
    def accelerator_name(self) -> str:
        """The accelerator: kvm, or tcg (emulation)."""

    def notices(self) -> list[str]:
        """Return why machines are slower than necessary, or cannot download, and what to do about it: one line each."""

    def logout_notices(self) -> list[str]:
        """Return one line if a machine started now would be killed at log-out, with what to do; else nothing."""


@runtime_checkable
class KeepsMemory(Protocol):
    """A cloud whose images can contain saved memory; a launch then restores a machine from it instead of booting."""

    def freeze(self, machine: str, image: str) -> Ticket:
        """Save with an image the memory of a machine that was booted from it and `freezes`; the machine cannot run again."""

    def unfit(self, spec: BootSpec) -> str:
        """Return in a few words why such a machine cannot be restored from its image's saved memory; "" if it can."""

    def restore(self, spec: BootSpec) -> Ticket:
        """Create a machine from its image's saved memory.

        Done once the machine has applied the facts as its identity; it cannot be reached before. RestoreError, also from
        `check`: it did not respond after the restore. The machine then exists, and the caller deletes it.
        """

    def memory_bytes(self, image: str) -> int:
        """Return the size of an image's saved memory on disk; 0: it has none."""


@runtime_checkable
class KeepsLayers(Protocol):
    """A cloud that can save the disk of a builder at each checkpoint, and start builders from it.

    On such a cloud a builder's script ends at each checkpoint but the last, and the builder waits. `BootSpec.source` may be
    the id of a layer; finished steps of the script are then skipped.
    """

    def layers(self) -> list[Layer]:
        """Return the cached layers, least recently used first."""

    def keep_layer(self, machine: str, *, key: str, parent: str, step: str, own: str) -> Ticket:
        """Save the disk of a waiting builder, which keeps waiting. CloudError: no layer was made, and the builder is unchanged.

        GuestError: it failed while the builder's disk was being replaced, so the builder is unusable.
        """

    def go_on(self, machine: str, script: str) -> Ticket:
        """Let a waiting builder run a script: the one of its boot, rendered in the same way."""

    def remove_layer(self, layer: str) -> bool:
        """Remove a layer; return False if a builder or another layer needs it. No such layer is a success."""


@runtime_checkable
class BuildsBases(Protocol):
    """A cloud whose bases are built on this computer, which takes minutes."""

    def kept_base(self, base: Base) -> BaseImage | None:
        """Return the base that a bake would start from, or None if it has to be built first."""


@runtime_checkable
class InstallsInBases(Protocol):
    """A cloud that installs packages while it builds a base (`Base.packages`), faster than a builder does.

    If they cannot be installed, `resolve_base` says why, and returns the base without them.
    """

    installs_in_bases: Literal[True]


@runtime_checkable
class SharesIndexes(Protocol):
    """A cloud whose builders use the Python package indexes of this computer; on others they use the public one."""

    def package_indexes(self) -> tuple[str, ...]:
        """Return the URLs of these indexes as this computer reaches them, with user names and passwords."""


@runtime_checkable
class PreparesHere(Protocol):
    """A cloud that uses work folders on this computer, which a killed command leaves unfinished."""

    def sweep(self) -> None:
        """Remove the work folders of dead processes, and damaged layers."""


@runtime_checkable
class StreamsLog(Protocol):
    """A cloud with a second channel, on which a builder streams the full output of its steps."""

    def log(self, machine: str, since: Position = START) -> ConsoleText:
        """Return the output of the steps after a position that an earlier call has returned."""


@runtime_checkable
class Admits(Protocol):
    """A cloud with a firewall that allows only chosen addresses to reach a machine."""

    def admit(self, machine: str, source: str = "") -> str:
        """Allow an address or range (CIDR), by default this computer's current address, to reach a machine.

        Return one line about what has changed, or "". Previously allowed addresses are removed.
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
    """A cloud that can open SSH to a builder, which is otherwise unreachable."""

    def open_shell(self, machine: str, public_key: str) -> Endpoint:
        """Allow root to log in with this SSH key and return the address of the SSH server."""


@runtime_checkable
class OverlaysImages(Protocol):
    """A cloud whose machines need the image that they were launched from: their disks overlay its disk.

    On others, the disk of a machine is a copy.
    """

    overlays_images: Literal[True]


class DiskFiles(Protocol):
    """The files of an image's disk, read from outside."""

    def list(self) -> Mapping[str, int]:
        """Return the size in bytes of every regular file, by absolute path."""

    def read(self, paths: Iterable[str], limit_bytes: int = 65536) -> Mapping[str, bytes]:
        """Return the start of each of these files, by path, in one pass; missing files are left out."""


@runtime_checkable
class ReadsDisks(Protocol):
    """A cloud that can read the files of a finished image from outside."""

    def files(self, image: str, scratch: Path) -> DiskFiles:
        """Open an image for reading; `scratch` is a folder for temporary copies that the caller removes."""


@runtime_checkable
class KeepsImagesByRegion(Protocol):
    """A cloud that keeps an image in one region, and starts machines from it there only. A name may exist in several regions.

    `find`, `label` and `delete` mean the image of that name in `image_region`, and so does `BootSpec.source`. `owned` may list
    those of other regions too; `Resource.zone` names the region of each.
    """

    image_region: str


@runtime_checkable
class KeepsDisks(Protocol):
    """A cloud on which the disk of a machine can outlive it. Then `owned` lists it, with the labels that its machine had."""

    def keep_disk(self, machine: str, *, keep: bool) -> None:
        """Let the disk of a machine outlive it, or not. NotFoundError: no such machine."""


@runtime_checkable
class HasRegions(Protocol):
    """A cloud whose operations and lists cover one region of its account, in which names are unique. `account` ends with it."""

    def region(self) -> str:  # no property: before Python 3.12 isinstance() reads those of a Protocol
        """Return the region. UsageError: no setting names one."""

    def regions(self) -> list[str]:
        """Return the regions that are enabled for the account, sorted."""

    def in_region(self, region: str) -> Cloud:
        """Return this cloud in another region. It may be used in another thread than its siblings."""


@runtime_checkable
class NamesHosts(Protocol):
    """A cloud that gives machines public DNS names."""

    def dns_name(self, machine: str) -> str:
        """Return the public DNS name of a machine, as it was when it was read last; "" if it has none."""


@runtime_checkable
class Diagnoses(Protocol):
    """A cloud that can check what a bake and a launch need of it: credentials, project or region, quotas, permissions, tools."""

    def checks(self, largest: Size) -> Mapping[str, Check]:
        """Return the checks by what they are about, in the order to run them; `largest` is what there must be a quota for.

        If the first one finds a problem, or cannot be made, the others would too.
        """


@runtime_checkable
class KeepsFiles(Protocol):
    """A cloud that stores files (logs, manifest) with an image."""

    def attach(self, image: str, files: Mapping[str, Path]) -> None:
        """Store copies of files with an image, under the given names; each is copied completely or not at all."""

    def attached(self, image: str, file: str) -> Path | None:
        """Return the path of such a file, or None."""
