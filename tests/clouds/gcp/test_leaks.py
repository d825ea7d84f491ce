"""The leak matrix on Google Cloud: whatever happens at whichever request, a bake and a launch leave nothing that is billed.

Each request of a good run, the first and the last of its kind, x each way to fail; where a bake sends its files over SSH, each one.
What is left is read from the server, not from the driver. After SIGKILL, and where cleaning up itself was what failed, there is
nothing once gc has run.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from clouds.gcp import machines
from clouds.gcp.naming import machine_of_rule
from tests import fake_sftp
from tests.clouds.gcp.stage import NewStage, Stage, Wire, Work, bake_large, bake_tiny, launch_tiny
from tests.fake_cloud import Killed
from tests.servers.gce.errors import ApiError
from tests.servers.gce.faults import stock_out
from tests.servers.gce.operations import OperationError
from tests.servers.gce.server import Gce, serve
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
    "networks.get",
    "networks.insert",
    "zoneOperations.wait",
}
LAUNCH = {
    "disks.get",
    "disks.setLabels",
    "firewalls.insert",
    "globalOperations.wait",
    "images.list",
    "instances.aggregatedList",
    "instances.getSerialPortOutput",
    "instances.insert",
    "instances.setLabels",
    "networks.get",
    "zoneOperations.wait",
}
LARGE = {
    "firewalls.delete",
    "firewalls.insert",
    "globalOperations.wait",
    "instances.getSerialPortOutput",
    "instances.insert",
}
"""Of the requests of a bake that sends its files over SSH, those that are about that."""
CLEANING = {
    "firewalls.delete",
    "globalOperations.wait",
    "images.get",
    "instances.aggregatedList",
    "instances.delete",
    "instances.get",
    "zoneOperations.wait",
}
"""The requests that cleaning up needs: if they fail, leftovers are reported, and gc removes them."""
WORKS: dict[str, Work] = {"bake": bake_tiny, "large": bake_large, "launch": launch_tiny}


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
    raise requests.ConnectionError("the connection was lost")


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
    for work, methods in (("bake", BAKE), ("large", LARGE), ("launch", LAUNCH)):
        for method in sorted(methods):
            for failure in (*SERVER_FAULTS, *WIRE_FAULTS):
                if failure not in OF_OPERATIONS or _has_operation(method, OF_OPERATIONS[failure]):
                    yield work, method, failure


def _has_operation(method: str, only: set[str] | None) -> bool:
    is_read = method.partition(".")[2] in ("get", "list", "aggregatedList", "getFromFamily", "getSerialPortOutput", "wait")
    return method in only if only else not is_read


CASES = list(cases())
EDGES = [
    f"{work}-instances.insert-{failure}"
    for work in WORKS
    for failure in ("answer-lost-for-good", "stock-out", "Ctrl-C-after", "SIGKILL-after")
] + [
    "bake-images.insert-SIGKILL-after",
    "bake-instances.delete-refused-for-good",
    "large-firewalls.delete-answer-lost-for-good",
    "large-firewalls.delete-SIGKILL-before",
    "large-firewalls.insert-Ctrl-C-after",
    "large-firewalls.insert-SIGKILL-after",
    "launch-firewalls.insert-Ctrl-C-after",
]
"""Where most could be left: the request was carried out without an answer; and where cleaning up itself fails."""


def good_run(stage: Stage, work: str) -> Counter[str]:
    """Return how often a good run makes each request."""
    wire = Wire(stage.server)
    WORKS[work](stage.connect(wire), stage.home)
    return wire.seen


@pytest.mark.parametrize("work", WORKS)
def test_the_matrix_holds_every_request_that_is_made(new_stage: NewStage, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "FRESH_S", 60.0)  # else a slow computer asks once more
    assert set(good_run(new_stage(work), work)) == {"bake": BAKE, "large": BAKE, "launch": LAUNCH}[work]
    assert set(LARGE) <= set(BAKE)


def test_the_matrix_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 300


@pytest.mark.matrix(sample=40, edges=EDGES)
@pytest.mark.parametrize(("work", "method", "failure"), CASES, ids=["-".join(case).replace(" ", "-") for case in CASES])
def test_nothing_leaks(new_stage: NewStage, counts: Callable[[str], Counter[str]], work: str, method: str, failure: str) -> None:
    count = counts(work)[method]
    for nth in struck(work, failure, count):
        stage = new_stage(work)
        wire = Wire(stage.server)
        arm(stage.server, wire, method, failure, nth)
        stage.play(WORKS[work], wire)
        if not isinstance(stage.error, Killed):
            assert all(machine_in(path) in stage.told for path in stage.left()), (nth, stage.left(), stage.told)
            assert stage.left() == [] or method in CLEANING, (nth, stage.left(), stage.told)
        stage.collect()
        assert stage.left() == [], (nth, stage.told)


def struck(work: str, failure: str, count: int) -> list[int]:
    """Return which of the `count` requests of a method fail, one in each run; a fault for good strikes all of them in one run."""
    if "nth" in SERVER_FAULTS.get(failure, {}):
        return [1]
    return list(range(1, count + 1)) if work == "large" and count < 9 else sorted({1, count})


def arm(server: Gce, wire: Wire, method: str, failure: str, nth: int) -> None:
    """Let the nth request of a method fail."""
    if failure in SERVER_FAULTS:
        fault = dict(SERVER_FAULTS[failure])
        server.fault(f"compute.{method}", **{"nth": nth, **fault, "error": fault["error"]()})
        return
    due, strike = WIRE_FAULTS[failure]

    def strikes(seen: str, count: int, when: str) -> None:
        if (seen, count, when) == (method, nth, due):
            (strike or wire.die)()

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
        store = fake_sftp.Store(home.parent / "builders")
        vms, programs = ScriptedVms(played([], store)), fake_sftp.install(home.parent / "bin", store.folder)
        with pytest.MonkeyPatch.context() as patch, serve(vms=vms) as server:
            patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
            patch.setenv("BAKEHOUSE_HOME", str(home))
            stage = Stage(server, vms, home)
            if work == "launch":
                bake_tiny(stage.connect(), home)
            found[work] = good_run(stage, work)
    return found.__getitem__
