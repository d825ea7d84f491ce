"""Google Cloud with real machines behind it: the strict server, QEMU, and a disk that stands for Google's public image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from clouds.local import connect
from tests.servers.gce.server import Gce, serve
from tests.servers.qemu import GOOGLE, QemuVms
from tests.vm.bakehouse import Bakehouse
from tests.vm.public_base import check_ssh_port, make_base


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
    base = make_base(local, store, folder / "base.qcow2", script="google-base.sh")
    vms = QemuVms(machines, base, local.accelerator, GOOGLE)
    with serve(vms=vms) as server:
        yield Google(home, server, vms)
        assert server.crashes == []
