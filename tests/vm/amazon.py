"""AWS with real machines behind it: the strict EC2 server, QEMU, and a disk that stands for Debian's AMI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.local import connect
from tests.servers.ec2 import serve
from tests.servers.qemu import AMAZON, QemuVms
from tests.vm.bakehouse import Bakehouse
from tests.vm.public_base import check_ssh_port, make_base

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

_REGION = "us-east-1"


@dataclass(frozen=True)
class Amazon(Bakehouse):
    """The command line, told to work on the server; `server` tells what is there."""

    server: Ec2
    vms: QemuVms

    def environment(self) -> dict[str, str]:
        keys = self.server.client_arguments(_REGION)
        return super().environment() | {
            "BAKEHOUSE_CLOUD": "aws",
            "BAKEHOUSE_CONFIG": str(self.home / "config.toml"),
            "AWS_ENDPOINT_URL": self.server.url,
            "AWS_ACCESS_KEY_ID": keys["aws_access_key_id"],
            "AWS_SECRET_ACCESS_KEY": keys["aws_secret_access_key"],
            "AWS_REGION": _REGION,
        }

    def left(self) -> list[str]:
        """Return what the server has besides finished images."""
        return [line for line in self.server.inventory() if not line.startswith(("images ", "snapshots "))]


@contextmanager
def amazon(store: Path, folder: Path) -> Iterator[Amazon]:
    """Run the server, with real machines, until the block ends; `store` is one of the local cloud."""
    check_ssh_port()
    local = connect(store, {})
    home, machines = folder / "home", folder / "machines"
    home.mkdir(mode=0o700)
    machines.mkdir()
    (home / "config.toml").write_text(f'[aws]\nslowness = "{local.slowness:g}"\n')
    vms = QemuVms(machines, make_base(local, store, folder / "base.qcow2", script="amazon-base.sh"), local.accelerator, AMAZON)
    with serve(vms=vms) as server:
        yield Amazon(home, server, vms)
        assert server.crashes == []
