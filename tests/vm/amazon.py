"""AWS with real machines behind it: the strict EC2 server, QEMU, and a disk that stands for Debian's AMI."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from tests.servers.ec2 import serve
from tests.servers.qemu import AMAZON
from tests.vm.real_cloud import RealCloud, prepare

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

_REGION = "us-east-1"


@dataclass(frozen=True)
class Amazon(RealCloud):
    """The command line, told to work on the server; `server` tells what is there."""

    server: Ec2
    name: ClassVar[str] = "aws"
    stopped: ClassVar[str] = "stopped"

    def environment(self) -> dict[str, str]:
        keys = self.server.client_arguments(_REGION)
        return super().environment() | {
            "BAKEHOUSE_CLOUD": self.name,
            "BAKEHOUSE_CONFIG": str(self.home / "config.toml"),
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
            "AWS_REGION": _REGION,
        }

    def left(self) -> list[str]:
        return [line for line in self.server.inventory() if not line.startswith(("images ", "snapshots "))]

    def disk(self, image: str) -> Path:
        """Return the disk of an image: that of its only snapshot."""
        with self.server.cloud.lock:
            (found,) = (one for region in self.server.cloud.regions() for one in region.own_images() if one.name == image)
            (snapshot_id,) = found.snapshot_ids
        return self.vms.image_disk(snapshot_id)

    def address(self, machine: str) -> str:
        return str(self.server.instance(machine).public_ip)

    def state(self, machine: str) -> str:
        return str(self.server.instance(machine).state)

    def seen(self, machine: str) -> bytes:
        """Return all that the cloud got to see; user data also as it was before it was compressed."""
        packed = [data for call in self.server.calls for key, data in call.params.items() if key.startswith("UserData")]
        user_data = b"".join(gzip.decompress(base64.b64decode(data)) for data in packed)
        return str(self.server.calls).encode() + user_data + self.server.serial(machine)


@contextmanager
def amazon(store: Path, folder: Path) -> Iterator[Amazon]:
    """Run the server, with real machines, until the block ends; `store` is one of the local cloud."""
    packages = ["cloud-init", "dhcpcd-base"]
    home, vms = prepare(store, folder, AMAZON, cloud=Amazon.name, packages=packages, script="amazon-base.sh")
    with serve(vms=vms) as server:
        yield Amazon(home, vms, server)
        assert server.crashes == []
