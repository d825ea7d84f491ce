"""The leak matrix on Google Cloud: whatever happens at whichever request, a bake and a launch leave nothing that is billed.

Each request of a good run, the first and the last of its kind, x each way to fail. What is left is read from the server, not
from the driver. After SIGKILL, and where cleaning up itself was what failed, there is nothing once gc has run.
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clouds import names, waiter
from clouds.errors import BakehouseError, TestsFailedError, ThrottledError
from clouds.gcp import calls, machines, operations
from clouds.gcp.images import Images
from clouds.gcp.naming import machine_of_rule
from clouds.gcp.places import places
from clouds.ledger import Ledger
from launcher import gc, identity
from tests.clouds.gcp.tiny import Cloud, bake_tiny, launch_tiny
from tests.fake_cloud import Killed
from tests.servers.gce.errors import ApiError
from tests.servers.gce.faults import stock_out
from tests.servers.gce.operations import OperationError
from tests.servers.gce.schema import compute_v1
from tests.servers.gce.server import SERVICE_PATH, Gce, serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms

pytestmark = pytest.mark.server

BAKE = {
    "firewalls.delete",
    "firewalls.insert",
    "globalOperations.wait",
    "images.get",
    "images.getFromFamily",
    "images.insert",
    "images.list",
    "images.patch",
    "images.setLabels",
    "instances.aggregatedList",
    "instances.delete",
    "instances.get",
    "instances.getSerialPortOutput",
    "instances.insert",
    "instances.stop",
    "networks.insert",
    "zoneOperations.wait",
}
LAUNCH = {
    "firewalls.insert",
    "globalOperations.wait",
    "images.list",
    "instances.aggregatedList",
    "instances.getSerialPortOutput",
    "instances.insert",
    "instances.setLabels",
    "zoneOperations.wait",
}
LONG_AFTER = 4_000_000_000.0
"""A time, in seconds since the epoch, when everything has expired."""
CLEANING = {
    "firewalls.delete",
    "globalOperations.wait",
    "images.get",
    "instances.aggregatedList",
    "instances.delete",
    "instances.get",
    "zoneOperations.wait",
}
"""The requests without which nothing can be cleaned up: where they fail, what is left is told, and gc removes it."""


@dataclass(slots=True)
class Wire:
    """What lies between the driver and the server: here answers are lost, keys are pressed and processes killed."""

    server: Gce
    real: calls.Send
    strikes: Callable[[str, int, str], None] = lambda method, nth, when: None
    seen: Counter[str] = field(default_factory=Counter)
    is_dead: bool = False

    def __call__(self, what: str, verb: str, url: str, body: bytes | None, patience_s: float) -> tuple[int, bytes]:
        if self.is_dead:
            raise Killed
        path = url.removeprefix(self.server.url + SERVICE_PATH).partition("?")[0]
        method = compute_v1().route(verb, path)[0].id.removeprefix("compute.")
        self.seen[method] += 1
        nth = self.seen[method]
        self.strikes(method, nth, "before")
        answer = self.real(what, verb, url, body, patience_s)
        self.strikes(method, nth, "after")
        return answer


@dataclass
class Stage:
    """One run: a server, a store, and how the work ended (None: well)."""

    server: Gce
    home: Path
    error: BaseException | None = None

    def connect(self, wire: Wire | None = None) -> Cloud:
        where = places({"project": "demo"})
        way = calls.Calls("demo", self.server.url, retry_s=0.3, sleep=lambda seconds: waiter.time.sleep(seconds / 20), send=wire)
        return Cloud(way, where, Images(way, where.region, self.home / "gcp" / "bases.json"), slowness=0.02)

    def play(self, work: Work, wire: Wire) -> None:
        try:
            work(self.connect(wire), self.home)
        except (BakehouseError, KeyboardInterrupt, Killed) as error:
            self.error = error

    @property
    def told(self) -> str:
        """All that the user is told."""
        return f"{self.error}\n" + "\n".join(getattr(self.error, "__notes__", ()))

    def collect(self) -> None:
        """Run gc as a second command would, when the first one is dead and the cloud is well again."""
        self.server.clear_faults()
        cloud, ledger = self.connect(), Ledger(self.home / "ledger.sqlite3")
        gc.collect(cloud, ledger, gc.find(cloud, ledger, now=LONG_AFTER, is_dead=lambda labels: True))
        gc.forget_absent(cloud, ledger, is_dead=lambda labels: True)

    def left(self) -> list[str]:
        """Return, from the server's own inventory, what no good end leaves; our network costs nothing and stays."""
        lines = [line.split() for line in self.server.inventory()]
        return [
            path
            for kind, path, *_ in lines
            if kind in ("instances", "disks", "firewalls", "images") and not self._may_stay(kind, path)
        ]

    def _may_stay(self, kind: str, path: str) -> bool:
        name = path.rpartition("/")[2]
        if kind == "images":
            image = self.server.get(f"global/images/{name}")
            stays = image["labels"]["state"] == names.STABLE or isinstance(self.error, TestsFailedError)
            return bool(image["status"] == "READY" and image["labels"]["role"] == "image" and stays)
        machine = machine_of_rule(name) if kind == "firewalls" else name
        instances = [line for line in self.server.inventory() if line.startswith("instances ") and f"/{machine} " in line]
        return bool(instances) and self.server.instance(machine)["labels"]["role"] == "machine"


Work = Callable[[Cloud, Path], object]


WORKS: dict[str, Work] = {"bake": bake_tiny, "launch": launch_tiny}


def forbidden() -> ApiError:
    return ApiError(403, "forbidden", "Required 'compute.instances.create' permission for 'projects/demo'")


def throttled() -> ApiError:
    return ApiError(403, "rateLimitExceeded", "Rate Limit Exceeded")


def lost() -> ApiError:
    return ApiError(503, "backendError", "Internal error. Please try again or contact Google Support.")


SERVER_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "refused": {"when": "before", "error": forbidden},
    "refused for good": {"when": "before", "error": forbidden, "nth": None},
    "answer lost": {"when": "after", "error": lost},
    "answer lost for good": {"when": "after", "error": lost, "nth": None},
    "throttled": {"when": "before", "error": throttled},
    "throttled for good": {"when": "before", "error": throttled, "nth": None},
    "operation fails": {"when": "before", "error": lambda: OperationError("INTERNAL_ERROR", "Internal error.", 500)},
    "stock-out": {
        "when": "before",
        "error": lambda: stock_out("us-central1-a", "e2-small", available="us-central1-b"),
        "nth": None,
    },
}
OF_OPERATIONS = {"operation fails": None, "stock-out": {"instances.insert"}}
"""Faults that arrive in an operation: of every method that has one (None), or of these."""


def silence() -> None:
    raise ThrottledError("no answer (the connection was lost)")


def press() -> None:
    signal.raise_signal(signal.SIGINT)


WIRE_FAULTS: Mapping[str, tuple[str, Callable[[], None] | None]] = {
    "time-out before": ("before", silence),
    "time-out after": ("after", silence),
    "Ctrl-C before": ("before", press),
    "Ctrl-C after": ("after", press),
    "SIGKILL before": ("before", None),
    "SIGKILL after": ("after", None),
}


def cases() -> Iterator[tuple[str, str, str]]:
    """Yield work, method and failure, where the method can fail so."""
    for work, methods in (("bake", BAKE), ("launch", LAUNCH)):
        for method in sorted(methods):
            for failure in (*SERVER_FAULTS, *WIRE_FAULTS):
                if failure not in OF_OPERATIONS or _has_operation(method, OF_OPERATIONS[failure]):
                    yield work, method, failure


def _has_operation(method: str, only: set[str] | None) -> bool:
    is_read = method.partition(".")[2] in ("get", "list", "aggregatedList", "getFromFamily", "getSerialPortOutput", "wait")
    return method in only if only else not is_read


CASES = list(cases())


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is waited for while nothing answers."""
    monkeypatch.setattr(waiter, "_THROTTLED_S", 0.05)
    monkeypatch.setattr(operations, "_FINISH_S", 1.0)
    monkeypatch.setattr(machines, "GRACE_S", 0.2)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store that has an SSH key, which takes long to make."""
    home = tmp_path_factory.mktemp("furnished")
    identity.user_key(home)
    return home


NewStage = Callable[[str], Stage]


@pytest.fixture
def new_stage(tmp_path: Path, furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewStage]:
    """Give fresh clouds, each with a store of its own; for a launch there is an image."""
    running = []

    def make(work: str) -> Stage:
        home = tmp_path / names.new_nonce() / "home"
        shutil.copytree(furnished, home)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        context = serve(vms=ScriptedVms(played([])), operation_s=0.005)
        running.append((context, context.__enter__()))
        stage = Stage(running[-1][1], home)
        if work == "launch":
            bake_tiny(stage.connect(), home)
        return stage

    yield make
    for context, server in running:
        context.__exit__(None, None, None)
        assert server.crashes == []


def good_run(stage: Stage, work: str) -> Counter[str]:
    """Return how often a good run makes each request."""
    wire = Wire(stage.server, calls.sender(anonymous=True))
    WORKS[work](stage.connect(wire), stage.home)
    return wire.seen


@pytest.mark.parametrize("work", WORKS)
def test_the_matrix_holds_every_request_that_is_made(new_stage: NewStage, work: str) -> None:
    assert set(good_run(new_stage(work), work)) == {"bake": BAKE, "launch": LAUNCH}[work]


def test_the_matrix_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 300


@pytest.mark.parametrize(("work", "method", "failure"), CASES, ids=["-".join(case).replace(" ", "-") for case in CASES])
def test_nothing_leaks(new_stage: NewStage, counts: Callable[[str], Counter[str]], work: str, method: str, failure: str) -> None:
    for nth in sorted({1, counts(work)[method]}):
        stage = new_stage(work)
        wire = Wire(stage.server, calls.sender(anonymous=True))
        arm(stage.server, wire, method, failure, nth)
        stage.play(WORKS[work], wire)
        if not isinstance(stage.error, Killed):
            assert all(machine_in(path) in stage.told for path in stage.left()), (nth, stage.left(), stage.told)
            assert stage.left() == [] or method in CLEANING, (nth, stage.left(), stage.told)
        stage.collect()
        assert stage.left() == [], (nth, stage.told)


def arm(server: Gce, wire: Wire, method: str, failure: str, nth: int) -> None:
    """Let the nth request of a method fail."""
    if failure in SERVER_FAULTS:
        fault = dict(SERVER_FAULTS[failure])
        server.fault(f"compute.{method}", **{"nth": nth, **fault, "error": fault["error"]()})
        return
    due, strike = WIRE_FAULTS[failure]

    def strikes(seen: str, count: int, when: str) -> None:
        if (seen, count, when) == (method, nth, due):
            if strike is None:
                wire.is_dead = True
                raise Killed
            strike()

    wire.strikes = strikes


def machine_in(path: str) -> str:
    """Return the name by which a user knows what is left."""
    name = path.rpartition("/")[2]
    return machine_of_rule(name) if name.startswith("bakehouse-") else name.replace("-0-1-0-", "-0.1.0-")


@pytest.fixture(scope="module")
def counts(tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Callable[[str], Counter[str]]:
    """Give how often a good run makes each request."""
    found = {}
    for work in WORKS:
        home = tmp_path_factory.mktemp("good") / "home"
        shutil.copytree(furnished, home)
        with pytest.MonkeyPatch.context() as patch, serve(vms=ScriptedVms(played([]))) as server:
            patch.setenv("BAKEHOUSE_HOME", str(home))
            stage = Stage(server, home)
            if work == "launch":
                bake_tiny(stage.connect(), home)
            found[work] = good_run(stage, work)
    return found.__getitem__
