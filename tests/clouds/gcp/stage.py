"""A stage for whole bakes and launches: the driver, the strict server with scripted machines, and what lies between the two.

Waits are scaled: a minute of a recipe is 1.2 s here (`SLOWNESS`).
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from bakery.bake import Baked, bake
from bakery.errors import NotSealedError, TestsFailedError
from bakery.events import Event, Note, OnEvent
from bakery.order import BakeOptions
from bakery.recipe.recipe import Builder, Copy, Recipe, Step, Test
from clouds import names, waiter
from clouds.driver import Endpoint
from clouds.errors import BakehouseError
from clouds.gcp.client import Client
from clouds.gcp.driver import GoogleCloud
from clouds.gcp.images import Images
from clouds.gcp.naming import machine_of_rule
from clouds.gcp.places import places
from clouds.ledger import Ledger
from launcher import gc
from launcher.launch import Launched, LaunchOptions, launch
from tests import fake_services, fake_sftp
from tests.fake_cloud import SEALED, FakeDisk, Killed
from tests.servers.gce.errors import Json
from tests.servers.gce.schema import compute_v1
from tests.servers.gce.server import SERVICE_PATH, Gce
from tests.servers.vm import ScriptedVms

SLOWNESS = 0.02
LONG_AFTER = 4_000_000_000.0
"""A time, in seconds since the epoch, when everything has expired."""


class Wire(HTTPAdapter):
    """The connection between driver and server: here answers are lost, keys are pressed and processes killed."""

    def __init__(self, server: Gce, strikes: Callable[[str, int, str], None] = lambda method, nth, when: None) -> None:
        super().__init__()
        self.server = server
        self.strikes = strikes
        self.seen: Counter[str] = Counter()
        self.is_dead = False

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        if self.is_dead:
            raise Killed
        path = str(request.url).removeprefix(self.server.url + SERVICE_PATH).partition("?")[0]
        method = compute_v1().route(str(request.method), path)[0].id.removeprefix("compute.")
        self.seen[method] += 1
        nth = self.seen[method]
        self.strikes(method, nth, "before")
        answer = super().send(request, *args, **more)
        self.strikes(method, nth, "after")
        return answer

    def die(self) -> None:
        """End the process as SIGKILL does: nothing more is asked for."""
        self.is_dead = True
        raise Killed


class Cloud(GoogleCloud):
    """The driver; SSH answers although the machines are scripted, and their disks can be read, and are sealed."""

    limits = replace(GoogleCloud.limits, poll_max_s=0.005, operations_s=dict.fromkeys(GoogleCloud.limits.operations_s, 30))

    is_open: Callable[[str, int], bool] = staticmethod(lambda machine, port: True)
    """Whether the firewall lets this computer reach a port of a machine."""

    def address(self, machine: str, port: int) -> Endpoint:
        super().address(machine, port)
        return fake_services.ssh() if self.is_open(machine, port) else Endpoint("127.0.0.1", fake_sftp.CLOSED_PORT)

    def files(self, image: str, scratch: Path) -> FakeDisk:
        return FakeDisk(SEALED)


Work = Callable[[Cloud, Path], object]
NewStage = Callable[..., "Stage"]
"""Makes a stage for a work (`bake`; `launch`: with an image); what else is named goes to the server."""


@dataclass
class Stage:
    """A server, a store, the notes, and how the work ended (None: success); `store` holds what builders receive."""

    server: Gce
    vms: ScriptedVms
    home: Path
    events: list[Event] = field(default_factory=list)
    error: BaseException | None = None
    store: fake_sftp.Store | None = None

    def connect(self, wire: Wire | None = None, **settings: str) -> Cloud:
        where = places({"project": "demo", **settings})
        sleep: Callable[[float], None] = lambda seconds: waiter.time.sleep(seconds / 20)  # noqa: E731
        client = Client("demo", self.server.url, retry_s=0.3, sleep=sleep, adapter=wire)
        cloud = Cloud(client, where, Images(client, where.region, self.home / "gcp" / "bases.json"), slowness=SLOWNESS)
        cloud.is_open = lambda machine, port: self.server.is_open(machine, port, "127.0.0.1")
        return cloud

    def play(self, work: Work, wire: Wire | None = None) -> None:
        try:
            work(self.connect(wire), self.home)
        except (BakehouseError, KeyboardInterrupt, Killed) as error:
            self.error = error

    def bake(self, wire: Wire | None = None, *, silence_min: float = 5) -> None:
        """Bake, and record the notes."""
        self.play(lambda cloud, home: bake_tiny(cloud, home, on_event=self.events.append, silence_min=silence_min), wire)

    @property
    def notes(self) -> list[str]:
        """The lines of news that the user has seen."""
        return [event.text for event in self.events if isinstance(event, Note)]

    @property
    def told(self) -> str:
        """The complete error output."""
        return "\n".join((str(self.error), getattr(self.error, "next_step", ""), *getattr(self.error, "__notes__", ())))

    def collect(self) -> None:
        """Run gc as a second command would, when the first one is dead and the cloud is well again."""
        self.server.clear_faults()
        cloud, ledger = self.connect(), Ledger(self.home / "ledger.sqlite3")
        gc.collect(cloud, ledger, gc.find(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True))
        gc.forget_absent(cloud, ledger, now=time.time(), is_dead=lambda labels: True)

    def there(self, kind: str) -> list[str]:
        """Return the server's resources of a kind (`instances`), as `us-central1-a/NAME STATE`."""
        return [line.removeprefix(f"{kind} ") for line in self.server.inventory() if line.startswith(f"{kind} ")]

    def left(self) -> list[str]:
        """Return, from the server's own inventory, what no good end leaves; our network costs nothing and stays.

        All of it is of one instant: a delete that is under way may end between two looks.
        """
        things = self.server.things()
        machines = [thing for line, thing in things.items() if line.startswith("instances ")]
        staying = {thing["name"] for thing in machines if thing["labels"]["role"] == "machine"}
        return [
            line.split()[1]
            for line, thing in things.items()
            if line.startswith(("instances ", "disks ", "firewalls ", "images ")) and not self._may_stay(line, thing, staying)
        ]

    def _may_stay(self, line: str, thing: Json, staying: set[str]) -> bool:
        name = thing["name"]
        if line.startswith("images "):
            stays = thing["labels"]["state"] == names.STABLE or isinstance(self.error, TestsFailedError | NotSealedError)
            return bool(thing["status"] == "READY" and thing["labels"]["role"] == "image" and stays)
        return (machine_of_rule(name) if line.startswith("firewalls ") else name) in staying


def tiny(folder: Path, *, silence_min: float = 0.5) -> Recipe:
    """Return a recipe of one step and one test; its checkpoints are boot, prepare, first, seal."""
    steps, tests = (Step(name="first", run="true"),), (Test(name="works", run="true"),)
    return Recipe(name="tiny", folder=folder, builder=Builder(silence_min=silence_min), steps=steps, tests=tests)


def bake_large(
    cloud: Cloud,
    home: Path,
    *,
    on_event: OnEvent = lambda event: None,
    options: BakeOptions = BakeOptions(),  # noqa: B008 - frozen
) -> Baked:
    """Bake `tiny` with a file of 0.3 MB, which nothing compresses."""
    (home / "large").write_bytes(random.Random(1).randbytes(300_000))
    copy = Step(name="first", copy=(Copy(**{"from": "large", "to": "/opt/large"}),))
    recipe = replace(tiny(home, silence_min=2), steps=(copy,))
    return bake(cloud, recipe, options, home=home, on_event=on_event)


def bake_tiny(
    cloud: Cloud,
    home: Path,
    *,
    on_event: OnEvent = lambda event: None,
    silence_min: float = 0.5,
    options: BakeOptions = BakeOptions(),  # noqa: B008 - frozen
) -> Baked:
    return bake(cloud, tiny(home, silence_min=silence_min), options, home=home, on_event=on_event)


def launch_tiny(cloud: Cloud, home: Path, *, options: LaunchOptions | None = None, told: list[str] | None = None) -> Launched:
    ordered = options or LaunchOptions(recipe="tiny", name="mine")
    return launch(cloud, Ledger(home / "ledger.sqlite3"), ordered, tell=(told if told is not None else []).append)
