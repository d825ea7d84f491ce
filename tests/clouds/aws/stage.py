"""A stage for whole bakes and launches on AWS: the driver, the strict server with scripted machines, and a store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from bakery.errors import NotSealedError, TestsFailedError
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
from tests.fake_cloud import SEALED, FakeDisk, Killed
from tests.servers.ec2_asking import client
from tests.servers.vm import ScriptedVms

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


UNSEEN_S = 0.5
"""For how long, in seconds of `Clock`, the driver asks again about new resources: about eight times."""


@dataclass(slots=True)
class Clock:
    """A clock of its own, in seconds: each look at it takes 0.05 s, and waits are 50 times shorter.

    So the number of repetitions does not depend on how fast the computer is.
    """

    now: float = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / 50)
        self.now += seconds / 50


class Wire:
    """The connection between driver and server: here answers are lost, keys are pressed and processes killed.

    `seen` counts the attempts of each request, as `RunInstances` or `sts:GetCallerIdentity`.
    """

    def __init__(self, strikes: Callable[[str, int, str], None] = lambda action, nth, when: None) -> None:
        self.strikes = strikes
        self.seen: Counter[str] = Counter()
        self.is_dead = False

    def attach(self, client: Client) -> None:
        """Send the requests of a client over this wire."""
        make = client._session.client

        def made(service: str, region: str = "") -> Any:
            service_client = make(service, region)
            prefix = "" if service == "ec2" else f"{service}:"
            service_client._endpoint.http_session = _Http(self, service_client._endpoint.http_session, prefix)
            return service_client

        client._session.client = made  # type: ignore[method-assign]

    def die(self) -> None:
        """End the process as SIGKILL does: nothing more is asked for."""
        self.is_dead = True
        raise Killed


@dataclass(slots=True)
class _Http:
    """The HTTP session of a client of botocore, whose requests go over a wire; `prefix` precedes the names of its actions."""

    wire: Wire
    session: Any
    prefix: str

    def send(self, request: Any) -> Any:
        if self.wire.is_dead:
            raise Killed
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body)
        action = self.prefix + parse_qs(body)["Action"][0]
        self.wire.seen[action] += 1
        nth = self.wire.seen[action]
        self.wire.strikes(action, nth, "before")
        answer = self.session.send(request)
        self.wire.strikes(action, nth, "after")
        return answer

    def close(self) -> None:
        self.session.close()


class Cloud(Aws):
    """The driver; SSH answers although the machines are scripted, and their disks can be read, and are sealed."""

    def __init__(self, client: Client, settings: dict[str, str]) -> None:
        super().__init__(client, places(settings), slowness=SLOWNESS)
        self.limits = replace(
            self.limits, poll_s=0.005, poll_max_s=0.005, operations_s=dict.fromkeys(self.limits.operations_s, 150)
        )

    is_open: Callable[[str, int], bool] = staticmethod(lambda machine, port: True)
    """Whether the firewall lets this computer reach a port of a machine."""

    def address(self, machine: str, port: int) -> Endpoint:
        super().address(machine, port)
        return fake_services.ssh() if self.is_open(machine, port) else Endpoint("127.0.0.1", fake_sftp.CLOSED_PORT)

    def files(self, image: str, scratch: Path) -> FakeDisk:
        return FakeDisk(SEALED)


@dataclass
class Stage:
    """A server, a store, what was told, and how the work ended (None: well).

    `unseen_s` is for how long, in seconds, new machines and images are looked for.
    """

    server: Ec2
    vms: ScriptedVms
    home: Path
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    unseen_s: float = UNSEEN_S

    def connect(self, wire: Wire | None = None, **settings: str) -> Cloud:
        arguments, clock = self.server.client_arguments(), Clock()
        client = Client("us-east-1", "", self.home / "aws", arguments=arguments, unseen_s=UNSEEN_S, sleep=clock.sleep, clock=clock)
        if wire:
            wire.attach(client)
        cloud = Cloud(client, settings)
        cloud.limits = replace(cloud.limits, unseen_s=self.unseen_s)
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
        except (BakehouseError, KeyboardInterrupt, Killed) as error:
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
        self.server.switches.unseen_calls, self.server.switches.writes_count = 0, False
        self.server.cloud.unseen.clear()
        cloud, ledger = self.connect(), Ledger(self.home / "ledger.sqlite3")
        gc.collect(cloud, ledger, gc.find(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True))

    def left(self, *besides: str) -> list[str]:
        """Return, from the server's own inventory, what there is besides the kinds of things that are named."""
        return [line for line in self.server.inventory() if not line.startswith(besides or ("-",))]

    def strays(self) -> list[str]:
        """Return, from the server's own inventory, what no good end leaves, and what a finished machine or image has twice."""
        staying = {**self._finished("machine"), **self._finished("image")}
        seen: Counter[tuple[str, str]] = Counter()
        found = []
        for line in self.server.inventory():
            kind, place = line.split()[:2]
            name = place.rpartition("/")[2]
            if kind == "security-groups":
                name = name.removeprefix("bakehouse-").rpartition("-")[0]
            seen[kind, name] += 1
            if kind not in staying.get(name, ()) or seen[kind, name] > 1:
                found.append(line)
        return found

    def _finished(self, role: str) -> dict[str, tuple[str, ...]]:
        """Return the names of finished machines, or of finished images, and the kinds of the resources that each may have."""
        kinds = ("instances", "volumes", "security-groups", "spot-requests") if role == "machine" else ("images", "snapshots")
        return dict.fromkeys((tags["Name"] for tags in self._tags() if self._is_finished(tags, role)), kinds)

    def _is_finished(self, tags: dict[str, str], role: str) -> bool:
        is_good = (
            role == "machine" or tags.get("state") == names.STABLE or isinstance(self.error, TestsFailedError | NotSealedError)
        )
        return tags.get("role") == role and is_good

    def _tags(self) -> Iterator[dict[str, str]]:
        """Yield the tags of each instance that has not ended, and of each image that is available."""
        with self.server.cloud.lock:
            for region in self.server.cloud.regions():
                live = [one for one in region.all_instances() if one.state != "terminated"]
                ready = [one for one in region.own_images() if one.state == "available"]
                yield from [dict(region.tags.get(one.id, {})) for one in (*live, *ready)]
