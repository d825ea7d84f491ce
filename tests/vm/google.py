"""Google Cloud with real machines behind it: the strict server, QEMU, and a disk that stands for Google's public image."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from clouds import names
from clouds.driver import Base, BootSpec, Kind
from clouds.lifecycle import is_running, settle
from clouds.local import connect
from clouds.local.driver import LocalCloud
from clouds.local.vm.qemu import DISK
from clouds.waiter import until
from tests.servers.gce.server import Gce, serve
from tests.servers.qemu import QemuVms
from tests.vm.bakehouse import Bakehouse

SSH_PORT = 22
_MAKE_S = 120


@dataclass(frozen=True)
class Google(Bakehouse):
    """The command line, told to work on the server; `server` tells what is there."""

    server: Gce
    vms: QemuVms

    def image_disk(self, name: str) -> Path:
        """Return the disk of an image."""
        return self.vms.image_disk(f"projects/demo/global/images/{name}")

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "BAKEHOUSE_CLOUD": "gcp",
            "BAKEHOUSE_CONFIG": str(self.home / "config.toml"),
            "BAKEHOUSE_GCE_ENDPOINT": self.server.url,
            "GOOGLE_CLOUD_PROJECT": "demo",
        }

    def left(self) -> list[str]:
        """Return what the server has besides finished images and our own network."""
        return [line for line in self.server.inventory() if not line.startswith(("images ", "networks ", "subnetworks "))]


@contextmanager
def google(store: Path, folder: Path) -> Iterator[Google]:
    """Run the server, with real machines, until the block ends; `store` is one of the local cloud."""
    check_ssh_port()
    local = connect(store, {})
    home = folder / "home"
    home.mkdir(mode=0o700)
    (home / "config.toml").write_text(f'[gcp]\nslowness = "{local.slowness:g}"\n')
    machines = folder / "machines"
    machines.mkdir()
    vms = QemuVms(machines, make_base(local, store, folder / "base.qcow2"), local.accelerator)
    with serve(vms=vms) as server:
        yield Google(home, server, vms)
        assert server.crashes == []


def check_ssh_port() -> None:
    """Fail with what to do where this user may not listen on port 22, as the machines behind the server do on 127.x.y.z."""
    with socket.socket() as listener:
        try:
            listener.bind(("127.255.255.254", SSH_PORT))
        except PermissionError:
            pytest.fail(
                "this user may not listen on port 22 of loopback addresses, as the machines of these tests do:"
                f" run the tests as root, or run: sudo sysctl net.ipv4.ip_unprivileged_port_start={SSH_PORT}"
            )
        except OSError:
            pass  # something listens on port 22 of all addresses; the test that needs the port reports it


def make_base(local: LocalCloud, store: Path, disk: Path) -> Path:
    """Make the disk that stands for Google's public image out of a base of the local cloud."""
    base = local.resolve_base(Base("trixie", "amd64"))
    spec = BootSpec(
        name=names.new_machine_name("google"),
        token=names.new_nonce(),
        source=base.id,
        cpus=2,
        memory_mb=1024,
        disk_gb=4,
        labels={"role": "test"},
        deadline_s=int(10 * _MAKE_S * local.slowness),
        script=Path(__file__).with_name("google-base.sh").read_text(encoding="utf-8"),
        build_settings=True,
    )
    settle(local, local.boot(spec))
    try:
        until(lambda: not is_running(local, spec.name), what="making of the base", timeout_s=_MAKE_S * local.slowness, poll_s=0.5)
        made = store / "local/machines" / spec.name / DISK
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(made), str(disk)], check=True)
    finally:
        settle(local, local.delete(Kind.MACHINE, spec.name))
    disk.chmod(0o444)
    return disk
