"""A stage for whole bakes and launches on AWS: the driver, the strict server with scripted machines, and a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakery.events import Event, Note
from clouds import names
from clouds.aws.client import Client
from clouds.aws.driver import Aws
from clouds.aws.places import places
from clouds.driver import Base, BootSpec, Endpoint
from clouds.errors import BakehouseError
from clouds.ledger import Ledger
from clouds.lifecycle import create_machine
from clouds.undo import Undo
from launcher import gc
from launcher.launch import LaunchOptions
from tests import fake_services, fake_sftp
from tests.clouds.gcp.stage import LONG_AFTER, SLOWNESS, bake_tiny, launch_tiny
from tests.fake_cloud import FakeDisk
from tests.servers.ec2_asking import client
from tests.servers.vm import ScriptedVms

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


class Cloud(Aws):
    """The driver; SSH answers although the machines are scripted, and their disks can be read, and hold nothing."""

    def __init__(self, client: Client, settings: dict[str, str]) -> None:
        super().__init__(client, places(settings), slowness=SLOWNESS)
        self.limits = replace(self.limits, poll_max_s=0.005, operations_s=dict.fromkeys(self.limits.operations_s, 30))

    is_open: Callable[[str, int], bool] = staticmethod(lambda machine, port: True)
    """Whether the firewall lets this computer reach a port of a machine."""

    def address(self, machine: str, port: int) -> Endpoint:
        super().address(machine, port)
        return fake_services.ssh() if self.is_open(machine, port) else Endpoint("127.0.0.1", fake_sftp.CLOSED_PORT)

    def files(self, image: str, scratch: Path) -> FakeDisk:
        return FakeDisk({})


@dataclass
class Stage:
    """A server, a store, what was told, and how the work ended (None: well)."""

    server: Ec2
    vms: ScriptedVms
    home: Path
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None

    def connect(self, **settings: str) -> Cloud:
        sleep: Callable[[float], None] = lambda seconds: time.sleep(seconds / 50)  # noqa: E731
        arguments = self.server.client_arguments()
        client = Client("us-east-1", "", self.home / "aws", arguments=arguments, unseen_s=0.5, sleep=sleep)
        cloud = Cloud(client, settings)
        cloud.is_open = lambda machine, port: self.server.is_open(machine, port, "127.0.0.1")
        return cloud

    def bake(self) -> None:
        """Bake, and note what is told."""
        self.play(lambda: bake_tiny(self.connect(), self.home, on_event=self.events.append))

    def launch(self, name: str = "mine", told: list[str] | None = None, **options: Any) -> None:
        """Launch a machine, and note how it ends."""
        ordered = LaunchOptions(recipe="tiny", name=name, **options)
        self.play(lambda: launch_tiny(self.connect(), self.home, options=ordered, told=told))

    def boot(self, cloud: Cloud | None = None, **changes: Any) -> dict[str, Any]:
        """Boot a machine called `mine` from the base; return its instance as EC2 describes it."""
        cloud = cloud or self.connect()
        source = changes.pop("source", "") or cloud.resolve_base(Base("trixie", "amd64")).id
        plain = {"name": "mine", "token": names.new_nonce(), "source": source}
        size = {"cpus": 2, "memory_mb": 2048, "disk_gb": 8, "labels": {"role": "machine"}, "deadline_s": 3600, "ports": (22,)}
        with Undo() as undo:
            create_machine(cloud, Ledger(self.home / "ledger.sqlite3"), undo, BootSpec(**{**plain, **size, **changes}))
            undo.release()
        return self.instance(changes.get("name", "mine"))

    def instance(self, name: str = "mine") -> dict[str, Any]:
        """Return the instance of a machine as EC2 describes it."""
        listed = client(self.server).describe_instances(Filters=[{"Name": "tag:Name", "Values": [name]}])
        found: dict[str, Any] = listed["Reservations"][-1]["Instances"][0]
        return found

    def play(self, work: Callable[[], object]) -> None:
        try:
            work()
        except (BakehouseError, KeyboardInterrupt) as error:
            self.error = error

    @property
    def notes(self) -> list[str]:
        """The lines of news that the user has seen."""
        return [event.text for event in self.events if isinstance(event, Note)]

    @property
    def told(self) -> str:
        """All that the user is told of the error."""
        return "\n".join((str(self.error), getattr(self.error, "next_step", ""), *getattr(self.error, "__notes__", ())))

    def collect(self) -> None:
        """Run gc as a second command would, when the first one is dead and the cloud is well again."""
        self.server.clear_faults()
        cloud, ledger = self.connect(), Ledger(self.home / "ledger.sqlite3")
        gc.collect(cloud, ledger, gc.find(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True))

    def left(self, *besides: str) -> list[str]:
        """Return, from the server's own inventory, what there is besides the kinds of things that are named."""
        return [line for line in self.server.inventory() if not line.startswith(besides or ("-",))]
