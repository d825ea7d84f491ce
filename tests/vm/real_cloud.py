"""A cloud with real machines behind its test server: what the tests ask of it on each cloud."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from clouds.local import connect
from tests.servers.qemu import Platform, QemuVms
from tests.vm.bakehouse import Bakehouse
from tests.vm.public_base import check_ssh_port, make_base

_PUBLIC = "public.qcow2"
AGENTS = {"aws": "/usr/bin/cloud-init", "gcp": "/usr/bin/google_guest_agent"}
"""The program in the public image of each cloud that runs our script."""


@dataclass(frozen=True)
class RealCloud(Bakehouse, ABC):
    """The command line, told to work on a test server with real machines."""

    vms: QemuVms
    name: ClassVar[str]
    """The name of the cloud, as `--cloud` takes it."""
    stopped: ClassVar[str]
    """The state of a stopped machine, in the cloud's word."""

    @property
    def public_disk(self) -> Path:
        """The disk that stands for the cloud's public image."""
        return self.home.parent / _PUBLIC

    @abstractmethod
    def left(self) -> list[str]:
        """Return what the server has besides what a bake keeps: finished images, and a network of ours."""

    @abstractmethod
    def disk(self, image: str) -> Path:
        """Return the disk of an image."""

    @abstractmethod
    def address(self, machine: str) -> str:
        """Return the public address of a machine."""

    @abstractmethod
    def state(self, machine: str) -> str:
        """Return the state of a machine, in the cloud's word."""

    @abstractmethod
    def seen(self, machine: str) -> bytes:
        """Return all that the cloud got to see: every request, and the console of a machine."""


def prepare(
    store: Path, folder: Path, platform: Platform, *, cloud: str, packages: Sequence[str], script: str
) -> tuple[Path, QemuVms]:
    """Return a home folder for the command line and what runs a server's machines, both in an empty folder.

    `store` is one of the local cloud; `packages` and `script` make the public image (see `make_base`).
    """
    check_ssh_port()
    local = connect(store, {})
    home, machines = folder / "home", folder / "machines"
    home.mkdir(mode=0o700)
    machines.mkdir()
    (home / "config.toml").write_text(f'[{cloud}]\nslowness = "{local.slowness:g}"\n')
    base = make_base(folder / _PUBLIC, packages=packages, script=script)
    return home, QemuVms(machines, base, local.accelerator, platform)
