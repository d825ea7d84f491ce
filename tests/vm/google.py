"""Google Cloud with real machines behind it: the strict server, QEMU, and a disk that stands for Google's public image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tests.servers.gce.server import Gce, serve
from tests.servers.qemu import GOOGLE
from tests.vm.real_cloud import RealCloud, prepare


@dataclass(frozen=True)
class Google(RealCloud):
    """The command line, told to work on the server; `server` tells what is there."""

    server: Gce
    name: ClassVar[str] = "gcp"
    stopped: ClassVar[str] = "TERMINATED"

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "BAKEHOUSE_CLOUD": self.name,
            "BAKEHOUSE_CONFIG": str(self.home / "config.toml"),
            "BAKEHOUSE_GCE_ENDPOINT": self.server.url,
            "GOOGLE_CLOUD_PROJECT": "demo",
        }

    def left(self) -> list[str]:
        return [line for line in self.server.inventory() if not line.startswith(("images ", "networks ", "subnetworks "))]

    def image(self, name: str) -> Any:
        """Return the server's image of that name; Google's names have no dots."""
        return self.server.get(f"global/images/{name.replace('.', '-')}")

    def disk(self, image: str) -> Path:
        return self.vms.image_disk(f"projects/demo/global/images/{image.replace('.', '-')}")

    def address(self, machine: str) -> str:
        return str(self.server.instance(machine)["networkInterfaces"][0]["accessConfigs"][0]["natIP"])

    def state(self, machine: str) -> str:
        return str(self.server.instance(machine)["status"])

    def seen(self, machine: str) -> bytes:
        return str(self.server.calls).encode() + self.server.serial(machine)


@contextmanager
def google(store: Path, folder: Path) -> Iterator[Google]:
    """Run the server, with real machines, until the block ends; `store` is one of the local cloud."""
    home, vms = prepare(store, folder, GOOGLE, cloud=Google.name, packages=["google-guest-agent"], script="google-base.sh")
    with serve(vms=vms) as server:
        yield Google(home, vms, server)
        assert server.crashes == []
