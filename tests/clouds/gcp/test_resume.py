"""A client is killed at any request to Google Cloud: a bake is resumed, the same image once; of a launch nothing is left."""

from __future__ import annotations

import pytest

from bakery.bake import Baked
from clouds import names
from clouds.accounts import account_key
from clouds.driver import Kind
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from tests.clouds.gcp.stage import NewStage, Stage, Wire, Work, bake_large, bake_tiny, launch_tiny
from tests.killing import cases, die, take_up, unfinished, was_killed

pytestmark = pytest.mark.server

REQUESTS = {"bake": 40, "large": 48, "launch": 24}
"""At least as many as a good run makes; a slow computer repeats some of them."""
WORKS: dict[str, Work] = {"bake": bake_tiny, "large": bake_large, "launch": launch_tiny}
BAKES, LAUNCHES = ([case for case in cases(REQUESTS) if (case[0] == "launch") is is_launch] for is_launch in (False, True))


def kill(stage: Stage, work: Work, nth: int, when: str) -> bool:
    """Work in a process that is killed before or after its nth request; return whether it made so many."""

    def play() -> None:
        wire = Wire(stage.server)
        wire.strikes = lambda _method, _nth, then: die() if (sum(wire.seen.values()), then) == (nth, when) else None
        cloud = stage.connect(wire)
        cloud.is_open = lambda machine, port: True  # the server's state is not shared
        work(cloud, stage.home)

    return was_killed(play)


def check(stage: Stage, baked: Baked) -> None:
    """Check that the image is there, once, and nothing else."""
    (image,) = (thing for line, thing in stage.server.things().items() if line.startswith("images "))
    assert (image["status"], image["family"]) == ("READY", "bakehouse-tiny")
    assert image["labels"].items() >= {"state": names.STABLE, "role": "image", "bake": baked.id}.items()
    assert baked.image == f"tiny-{names.release()}-1"
    assert stage.left() == []
    assert unfinished(stage) == []


@pytest.mark.matrix(sample=8, edges=["bake-1-before"])
@pytest.mark.parametrize(("work", "nth", "when"), BAKES, ids=["-".join(map(str, case)) for case in BAKES])
def test_bake_killed_at_any_request_is_resumed(new_stage: NewStage, work: str, nth: int, when: str) -> None:
    stage = new_stage()
    assert kill(stage, WORKS[work], nth, when) or nth > 20
    if noted := unfinished(stage):
        baked = take_up(stage, noted[0].id)
        assert baked.id == noted[0].id
    else:  # nothing had been requested yet, or it had ended
        baked = bake_tiny(stage.connect(), stage.home) if work == "bake" else bake_large(stage.connect(), stage.home)
    check(stage, baked)


@pytest.mark.matrix(sample=5, edges=[])
@pytest.mark.parametrize(("work", "nth", "when"), LAUNCHES, ids=["-".join(map(str, case)) for case in LAUNCHES])
def test_launch_killed_at_any_request_leaves_a_whole_machine_or_what_gc_removes(
    new_stage: NewStage, work: str, nth: int, when: str
) -> None:
    stage = new_stage(work)
    assert kill(stage, WORKS[work], nth, when) or nth > 10
    stage.collect()
    cloud, ledger = stage.connect(), Ledger(stage.home / "ledger.sqlite3")
    if found := cloud.find(Kind.MACHINE, "mine"):
        assert found.labels["role"] == "machine"
        remove(cloud, ledger, Kind.MACHINE, "mine")
    assert stage.left() == []
    assert {entry.kind for entry in ledger.entries(account_key(cloud))} == {Kind.IMAGE}
    launch_tiny(stage.connect(), stage.home)


@pytest.mark.parametrize("work", WORKS)
def test_the_matrix_holds_every_request_that_is_made(new_stage: NewStage, work: str) -> None:
    stage = new_stage(work)
    wire = Wire(stage.server)
    WORKS[work](stage.connect(wire), stage.home)
    assert sum(wire.seen.values()) <= REQUESTS[work]
