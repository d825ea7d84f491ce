"""Many bakes: of the same recipe at the same time, and one after another in one process."""

from __future__ import annotations

import os
import resource
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bakery.bake import Baked
from bakery.order import BakeOptions
from clouds.gcp import sdk
from clouds.ledger import Ledger
from tests.clouds.gcp.stage import NewStage, Stage, Wire, bake_tiny

MANY = 50
GROWTH_MAX_MB = 100
FILES_MAX = 10
"""How many files and connections may be open at the end that were not at the beginning."""


def meeting(stage: Stage, count: int, method: str) -> Iterator[Wire]:
    """Yield so many wires on which those who are about to make their first request of a method wait for each other."""
    barrier = threading.Barrier(count)

    def strikes(seen: str, nth: int, when: str) -> None:
        if (seen, nth, when) == (method, 1, "before"):
            barrier.wait(timeout=20)

    return (Wire(stage.server, strikes) for _ in range(count))


def bake_at_once(stage: Stage, wires: Iterable[Wire]) -> list[Baked]:
    """Bake the same recipe on all wires at the same time, each in its own thread and as its own client."""
    clouds = [stage.connect(wire) for wire in wires]
    with ThreadPoolExecutor(len(clouds)) as pool:
        return list(pool.map(lambda cloud: bake_tiny(cloud, stage.home), clouds))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_two_bakes_of_a_recipe_at_the_same_time_are_two_versions(new_stage: NewStage) -> None:
    stage = new_stage()
    baked = bake_at_once(stage, meeting(stage, 2, "images.insert"))
    assert {bake.version for bake in baked} == {"0.1.0-1", "0.1.0-2"}
    assert stage.there("images") == ["tiny-0-1-0-1 READY", "tiny-0-1-0-2 READY"]
    assert stage.left() == []


def test_bake_that_lost_its_version_to_another_does_not_touch_that_one_s_image(new_stage: NewStage) -> None:
    stage = new_stage()
    for bake in bake_at_once(stage, meeting(stage, 3, "images.insert")):
        image = stage.server.get(f"global/images/{bake.image.replace('.', '-')}")
        assert (image["labels"]["bake"], image["labels"]["state"]) == (bake.id, "stable")
    assert sorted(entry.name for entry in Ledger(stage.home / "ledger.sqlite3").entries("gcp.demo")) == [
        f"tiny-0.1.0-{build}" for build in (1, 2, 3)
    ]


def test_two_first_bakes_of_a_project_that_make_its_network_at_once_share_it(new_stage: NewStage) -> None:
    stage = new_stage(operation_s=0.05)
    assert len(bake_at_once(stage, meeting(stage, 2, "networks.insert"))) == 2
    assert stage.there("networks") == ["bakehouse"]


def test_bake_that_meets_a_network_in_the_making_waits_for_it(new_stage: NewStage) -> None:
    stage, is_begun = new_stage(operation_s=0.05), threading.Event()

    def makes(method: str, nth: int, when: str) -> None:
        if (method, when) == ("networks.insert", "after"):
            is_begun.set()

    def meets(method: str, nth: int, when: str) -> None:
        if (method, when) == ("networks.get", "before"):
            is_begun.wait(timeout=20)

    assert len(bake_at_once(stage, [Wire(stage.server, makes), Wire(stage.server, meets)])) == 2


@pytest.mark.server
def test_fifty_bakes_in_one_process_keep_no_memory_and_no_files(new_stage: NewStage, capsys: pytest.CaptureFixture[str]) -> None:
    stage = new_stage()
    for service in sdk.Services.__annotations__:
        sdk.client_class(service)  # do not count the memory of the library itself
    cloud, before_mb, before_files = stage.connect(), peak_mb(), open_files()
    for number in range(1, MANY + 1):
        assert bake_tiny(cloud, stage.home, options=BakeOptions(force=True)).version == f"0.1.0-{number}"
    grown_mb, opened = peak_mb() - before_mb, open_files() - before_files
    with capsys.disabled():
        print(f"\n{MANY} bakes in process {os.getpid()}: {grown_mb:.1f} MB more at the peak, {opened} more open files")
    assert stage.left() == []
    assert grown_mb < GROWTH_MAX_MB
    assert opened < FILES_MAX
