"""A client is killed at any of its requests to AWS: a bake is resumed (the same image, once), of a launch nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from clouds import names
from clouds.accounts import account_key
from clouds.driver import Kind
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher import gc
from tests.clouds.aws.conftest import staged
from tests.clouds.aws.stage import Cloud, Stage, Wire
from tests.clouds.gcp.stage import LONG_AFTER, bake_large, bake_tiny, launch_tiny
from tests.killing import cases, die, take_up, unfinished, was_killed

pytestmark = [pytest.mark.server, pytest.mark.usefixtures("quick", "counted_waits")]

REQUESTS = {"bake": 36, "large": 44, "launch": 20}
"""At least as many as a good run makes; a slow computer repeats some of them."""
WORKS: dict[str, Callable[[Cloud, Path], object]] = {"bake": bake_tiny, "large": bake_large, "launch": launch_tiny}
BAKES, LAUNCHES = ([case for case in cases(REQUESTS) if (case[0] == "launch") is is_launch] for is_launch in (False, True))


@pytest.fixture
def stage(tmp_path: Path, furnished: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield stack.enter_context(staged(tmp_path, furnished, state_s=0.005))


def kill(stage: Stage, work: Callable[[Cloud, Path], object], nth: int, when: str) -> bool:
    """Work in a process that is killed before or after its nth request; return whether it made so many."""

    def play() -> None:
        wire = Wire()
        wire.strikes = lambda _action, _nth, then: die() if (sum(wire.seen.values()), then) == (nth, when) else None
        cloud = stage.connect(wire)
        cloud.is_open = lambda machine, port: True  # the server's state is not shared
        work(cloud, stage.home)

    return was_killed(play)


@pytest.mark.matrix(sample=8, edges=["bake-1-before"])
@pytest.mark.parametrize(("work", "nth", "when"), BAKES, ids=["-".join(map(str, case)) for case in BAKES])
def test_bake_killed_at_any_request_is_resumed(stage: Stage, work: str, nth: int, when: str) -> None:
    assert kill(stage, WORKS[work], nth, when) or nth > 20
    if noted := unfinished(stage):
        baked = take_up(stage, noted[0].id)
        assert baked.id == noted[0].id
    else:  # nothing had been requested yet, or it had ended
        baked = (bake_tiny if work == "bake" else bake_large)(stage.connect(), stage.home)
    assert baked.image == f"tiny-{names.release()}-1"
    assert stage.strays() == []
    assert sorted(line.split()[0] for line in stage.server.inventory()) == ["images", "snapshots"]
    (tags,) = stage._tags()
    assert tags.items() >= {"state": names.STABLE, "role": "image", "bake": baked.id}.items()
    assert unfinished(stage) == []


@pytest.mark.matrix(sample=5, edges=[])
@pytest.mark.parametrize(("work", "nth", "when"), LAUNCHES, ids=["-".join(map(str, case)) for case in LAUNCHES])
def test_launch_killed_at_any_request_leaves_a_whole_machine_or_what_gc_removes(
    stage: Stage, work: str, nth: int, when: str
) -> None:
    stage.bake()
    assert kill(stage, WORKS[work], nth, when) or nth > 8
    stage.collect()
    cloud, ledger = stage.connect(), Ledger(stage.home / "ledger.sqlite3")
    if found := cloud.find(Kind.MACHINE, "mine"):
        assert found.labels["role"] == "machine"
        remove(cloud, ledger, Kind.MACHINE, "mine")
    assert stage.left("images", "snapshots") == []
    gc.forget_absent(cloud, ledger, now=LONG_AFTER, is_dead=lambda _labels: True)
    assert {entry.kind for entry in ledger.entries(account_key(cloud))} == {Kind.IMAGE}
    launch_tiny(stage.connect(), stage.home)


@pytest.mark.parametrize("work", WORKS)
def test_the_matrix_holds_every_request_that_is_made(stage: Stage, work: str) -> None:
    if work == "launch":
        stage.bake()
    wire = Wire()
    WORKS[work](stage.connect(wire), stage.home)
    assert sum(wire.seen.values()) <= REQUESTS[work]
