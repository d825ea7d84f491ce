"""The leak matrix on AWS: whatever happens at whichever request, a bake and a launch leave nothing that is billed.

Each request of a good run, the first and the last of its kind, x each way to fail. What is left is read from the server, not from
the driver. After SIGKILL, and where cleaning up itself failed, there is nothing once gc has run. Requests that only cleaning up
makes fail in works that another fault ends (`undone launch`, `undone bake`).
"""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from clouds.driver import Wishes
from clouds.ledger import Ledger
from launcher import machines
from launcher.launch import LaunchOptions
from tests.clouds.aws.conftest import staged
from tests.clouds.aws.stage import Stage, Wire
from tests.clouds.gcp.stage import bake_large, bake_tiny, launch_tiny
from tests.fake_cloud import Killed
from tests.servers.ec2 import LateError, Page, insufficient_capacity, internal_error, throttled, unauthorized

pytestmark = pytest.mark.server

BAKE = {
    "AuthorizeSecurityGroupIngress",
    "CreateImage",
    "CreateSecurityGroup",
    "CreateTags",
    "DeleteSecurityGroup",
    "DescribeImages",
    "DescribeInstances",
    "DescribeSubnets",
    "GetConsoleOutput",
    "RunInstances",
    "StopInstances",
    "TerminateInstances",
    "sts:GetCallerIdentity",
}
LAUNCH = {
    "AuthorizeSecurityGroupIngress",
    "CreateSecurityGroup",
    "CreateTags",
    "DescribeImages",
    "DescribeInstances",
    "DescribeSubnets",
    "GetConsoleOutput",
    "RunInstances",
}
LARGE = {"DescribeSecurityGroups", "RevokeSecurityGroupIngress"}
"""What a bake that sends its files over SSH requests besides."""
UNDONE_BAKE = {"DeleteSnapshot", "DeregisterImage", "DescribeSecurityGroups", "DescribeSnapshots"}
UNDONE_LAUNCH = {"CancelSpotInstanceRequests", "DeleteSecurityGroup", "TerminateInstances"}
"""What cleaning up requests besides."""
REQUESTS: dict[str, set[str]] = {
    "bake": BAKE,
    "large": BAKE | LARGE,
    "undone bake": BAKE | UNDONE_BAKE,
    "launch": LAUNCH,
    "spot": LAUNCH,
    "elsewhere": LAUNCH | {"DescribeSecurityGroups"},
    "undone launch": LAUNCH | UNDONE_LAUNCH,
}
"""The requests of a good run of each work."""
STRUCK: dict[str, set[str]] = {
    "bake": BAKE,
    "large": LARGE | {"AuthorizeSecurityGroupIngress"},
    "undone bake": UNDONE_BAKE | {"DescribeImages"},
    "launch": LAUNCH,
    "spot": {"CreateTags", "DescribeInstances", "RunInstances"},
    "elsewhere": {"CreateSecurityGroup", "DescribeInstances", "DescribeSecurityGroups", "RunInstances"},
    "undone launch": UNDONE_LAUNCH | {"DescribeInstances"},
}
"""Of these, the ones that fail: those that the works above do not have, or that mean something else here."""
_CREATING = {"AuthorizeSecurityGroupIngress", "CreateImage", "CreateSecurityGroup", "CreateTags", "RunInstances"}
LAGGING: dict[str, set[str]] = {
    **dict.fromkeys(("bake", "launch", "spot"), _CREATING),
    "undone bake": UNDONE_BAKE,
    "undone launch": UNDONE_LAUNCH,
}
"""The requests that also fail while new resources are not listed yet."""
CLEANING = {
    "CancelSpotInstanceRequests",
    "DeleteSecurityGroup",
    "DeleteSnapshot",
    "DeregisterImage",
    "DescribeImages",
    "DescribeInstances",
    "DescribeSecurityGroups",
    "DescribeSnapshots",
    "TerminateInstances",
}
"""The requests that cleaning up needs: if they fail, leftovers are reported, and gc removes them."""
UNSEEN_CALLS = 2
STATE_S = 0.005
"""How long each change of a state takes, in seconds."""

SERVER_FAULTS: Mapping[str, Mapping[str, Any]] = {
    "refused": {"when": "before", "error": unauthorized},
    "refused for good": {"when": "before", "error": unauthorized, "nth": None},
    "answer lost": {"when": "after", "error": internal_error},
    "answer lost for good": {"when": "after", "error": internal_error, "nth": None},
    "throttled": {"when": "before", "error": throttled},
    "throttled for good": {"when": "before", "error": throttled, "nth": None},
    "page before": {"when": "before", "error": Page},
    "page after": {"when": "after", "error": Page},
    "fails late": {"when": "before", "error": lambda: LateError("Server.InternalError", "Server.InternalError: it went wrong")},
    "no capacity": {
        "when": "before",
        "error": lambda: insufficient_capacity("t3.small", "us-east-1a", "us-east-1b"),
        "nth": None,
    },
}
ONLY = {"fails late": {"CreateImage", "RunInstances"}, "no capacity": {"RunInstances"}}
"""Faults that only some requests meet."""


def silence() -> None:
    from botocore.exceptions import ReadTimeoutError  # type: ignore[import-untyped]

    raise ReadTimeoutError(endpoint_url="https://ec2.us-east-1.amazonaws.com/")


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
DONE = ("answer lost", "answer lost for good", "page after", "fails late", "time-out after", "Ctrl-C after", "SIGKILL after")
"""The faults of a request that was carried out."""


def cases() -> Iterator[tuple[str, str, str, int]]:
    """Yield work, action, failure, and how many calls do not see a new resource."""
    for work, actions in STRUCK.items():
        for action in sorted(actions):
            for failure in (*SERVER_FAULTS, *WIRE_FAULTS):
                if _can_fail(action, failure):
                    yield work, action, failure, 0
                    if failure in DONE and action in LAGGING.get(work, ()):
                        yield work, action, failure, UNSEEN_CALLS


def _can_fail(action: str, failure: str) -> bool:
    """Return whether a request can fail so: one that reads has no effect that its answer could hide."""
    is_read = action.startswith(("Describe", "Get", "sts:"))
    return action in ONLY.get(failure, {action}) and not (is_read and failure in DONE)


def name_of(work: str, action: str, failure: str, unseen: int) -> str:
    return "-".join((work, action, failure, *(["unseen"] if unseen else []))).replace(" ", "-")


CASES = list(cases())
EDGES = [
    "bake-CreateImage-answer-lost-for-good",
    "bake-CreateImage-SIGKILL-after",
    "bake-RunInstances-Ctrl-C-after-unseen",
    "bake-RunInstances-page-after",
    "launch-CreateSecurityGroup-answer-lost-for-good-unseen",
    "launch-RunInstances-SIGKILL-after",
    "launch-RunInstances-time-out-after-unseen",
    "elsewhere-RunInstances-answer-lost-for-good",
    "spot-RunInstances-page-after",
    "undone-bake-DeleteSnapshot-refused-for-good",
    "undone-launch-CancelSpotInstanceRequests-refused-for-good",
    "undone-launch-TerminateInstances-answer-lost-for-good",
]
"""Where most could be left: the request was carried out without an answer; and where cleaning up itself fails."""


def lag(stage: Stage, calls: int) -> None:
    """Let new resources be unlisted for some calls."""
    stage.server.switches.unseen_calls, stage.server.switches.writes_count = calls, True


def run(stage: Stage, work: str, wire: Wire) -> None:
    """Do a work, after the fault that ends it, or leads it to another zone."""
    options = LaunchOptions(recipe="tiny", name="mine", wishes=Wishes(spot=work in ("spot", "undone launch")))
    if work.startswith("undone"):
        stage.server.fault("CreateTags", error=unauthorized("CreateTags"), nth=None)
    stage.server.switches.capacity.clear()
    if work == "elsewhere":
        stage.server.switches.capacity.update({(f"t3.{size}", "us-east-1a"): 0 for size in ("small", "medium", "large")})
    if "bake" in work:
        stage.play(lambda: bake_tiny(stage.connect(wire), stage.home))
    elif work == "large":
        stage.play(lambda: bake_large(stage.connect(wire), stage.home))
    else:
        stage.play(lambda: launch_tiny(stage.connect(wire), stage.home, options=options))


NewStage = Callable[[str], Stage]


@pytest.mark.parametrize(
    ("work", "unseen"), [*((work, 0) for work in REQUESTS), ("large", UNSEEN_CALLS), ("undone launch", UNSEEN_CALLS)]
)
def test_the_matrix_holds_every_request_that_is_made(new_stage: NewStage, work: str, unseen: int) -> None:
    stage, wire = new_stage(work), Wire()
    lag(stage, unseen)
    run(stage, work, wire)
    assert (stage.error is None) is (not work.startswith("undone")), stage.told
    assert set(wire.seen) | ({"sts:GetCallerIdentity"} & REQUESTS[work]) == REQUESTS[work]
    assert stage.strays() == []


def test_a_bake_that_fails_removes_the_snapshot_that_is_not_listed_yet(new_stage: NewStage) -> None:
    stage, wire = new_stage("undone bake"), Wire()
    lag(stage, UNSEEN_CALLS)
    run(stage, "undone bake", wire)
    assert stage.strays() == [], stage.told


def test_the_matrix_is_as_large_as_it_should_be() -> None:
    assert len(CASES) >= 200
    assert set().union(*REQUESTS.values()) == set().union(*STRUCK.values())


@pytest.mark.matrix(sample=13, edges=EDGES)
@pytest.mark.parametrize(("work", "action", "failure", "unseen"), CASES, ids=[name_of(*case) for case in CASES])
def test_nothing_leaks(
    new_stage: NewStage, counts: Callable[[str], Counter[str]], work: str, action: str, failure: str, unseen: int
) -> None:
    is_for_good = "nth" in SERVER_FAULTS.get(failure, {})
    for nth in {1} if is_for_good else sorted({1, counts(work)[action]}):
        stage, wire = new_stage(work), Wire()
        lag(stage, unseen)
        arm(stage, wire, action, failure, nth)
        run(stage, work, wire)
        if not isinstance(stage.error, Killed):
            left = stage.strays()
            assert all(name_in(line) in stage.told for line in left), (nth, left, stage.told)
            assert action in CLEANING or (left == [] and "left behind" not in stage.told), (nth, left, stage.told)
        stage.collect()
        assert stage.strays() == [], (nth, stage.told)
        if "mine" in " ".join(stage.server.inventory()):
            machines.delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "mine")
        assert {line.split()[0] for line in stage.server.inventory()} <= {"images", "snapshots"}


def arm(stage: Stage, wire: Wire, action: str, failure: str, nth: int) -> None:
    """Let the nth request of an action fail."""
    if failure in SERVER_FAULTS:
        fault = dict(SERVER_FAULTS[failure])
        error = fault["error"](action) if fault["error"] is unauthorized else fault["error"]()
        stage.server.fault(action, **{"nth": nth, **fault, "error": error})
        return
    due, strike = WIRE_FAULTS[failure]

    def strikes(seen: str, count: int, when: str) -> None:
        if (seen, count, when) == (action, nth, due):
            (strike or wire.die)()

    wire.strikes = strikes


def name_in(line: str) -> str:
    """Return the name by which a user knows what is left."""
    name = line.split()[1].rpartition("/")[2]
    return name.removeprefix("bakehouse-").rpartition("-")[0] if name.startswith("bakehouse-") else name


class Clouds:
    """The cloud of all launches, which has an image; it is replaced when a case has left anything else in it."""

    def __init__(self, folder: Path, furnished: Path) -> None:
        self.folder, self.furnished = folder, furnished
        self._stack = ExitStack()
        self._stage: Stage | None = None
        self._made = 0

    def with_image(self) -> Stage:
        if self._stage and [line.split()[0] for line in self._stage.server.inventory()] == ["images", "snapshots"]:
            return self._stage
        self.close()
        self._made += 1
        self._stage = self._stack.enter_context(staged(self.folder / str(self._made), self.furnished, state_s=STATE_S))
        bake_tiny(self._stage.connect(), self._stage.home)
        return self._stage

    def close(self) -> None:
        self._stage = None
        self._stack.close()


@pytest.fixture(scope="module")
def clouds(tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Iterator[Clouds]:
    made = Clouds(tmp_path_factory.mktemp("clouds"), furnished)
    yield made
    made.close()


@pytest.fixture
def new_stage(clouds: Clouds, tmp_path: Path, furnished: Path, quick: None, counted_waits: None) -> Iterator[NewStage]:
    """Yield what makes stages: for a bake an empty cloud, for a launch one that has an image; each with a new store."""
    made: list[Path] = []
    with ExitStack() as stack:

        def make(work: str) -> Stage:
            made.append(tmp_path / str(len(made)))
            if "bake" in work or work == "large":
                return stack.enter_context(staged(made[-1], furnished, state_s=STATE_S))
            model = clouds.with_image()
            shutil.copytree(model.home, made[-1])
            stack.enter_context(pytest.MonkeyPatch.context()).setenv("BAKEHOUSE_HOME", str(made[-1]))
            model.server.clear_faults()
            stack.callback(model.server.clear_faults)
            return Stage(model.server, model.vms, made[-1])

        yield make


@pytest.fixture(scope="module")
def counted() -> dict[str, Counter[str]]:
    return {}


@pytest.fixture
def counts(counted: dict[str, Counter[str]], new_stage: NewStage) -> Callable[[str], Counter[str]]:
    """Give how often a good run makes each request."""

    def count(work: str) -> Counter[str]:
        if work not in counted:
            stage, wire = new_stage(work), Wire()
            run(stage, work, wire)
            counted[work] = wire.seen
            stage.collect()
            if "mine" in " ".join(stage.server.inventory()):
                machines.delete(stage.connect(), Ledger(stage.home / "ledger.sqlite3"), "mine")
        return counted[work]

    return count
