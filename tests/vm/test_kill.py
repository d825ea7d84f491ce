"""SIGKILL of the bake at points all over it: afterwards `gc` removes what is left, or the bake is resumed, and nothing is left."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from clouds.waiter import until
from tests.vm.bakehouse import RECIPES, Bakehouse

pytestmark = pytest.mark.vm

POINTS = [
    ("note", None, 0.0),
    ("step-started", "boot", 0.0),
    ("step-started", "boot", 1.0),
    ("step-started", "prepare", 0.0),
    ("step-started", "trouble", 1.0),
    ("step-started", "seal", 0.5),
    ("step-started", "stop", 0.2),
    ("step-started", "snapshot", 0.05),
    ("step-started", "inspect", 0.5),
    ("step-started", "memory", 2.0),
    ("step-started", "test", 0.3),
]
STEPS = ("boot", "prepare", "trouble")
"""Those that would not begin again once a layer of them is kept."""


def kill(bakehouse: Bakehouse, event: str, name: str | None, after_s: float) -> None:
    """Bake `works`, and kill the command so long after an event."""
    anew = ("--from", name) if name in STEPS else ("--force",)
    process = bakehouse.start("bake", "--recipe", str(RECIPES / "works.toml"), *anew, "--json")
    assert process.stdout
    for line in process.stdout:
        seen = json.loads(line)
        if seen.get("event") == event and name in (None, seen.get("name")):
            break
    time.sleep(after_s)
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -9


@pytest.mark.matrix(sample=1, edges=["step-started-boot-1.0", "step-started-snapshot-0.05"])
@pytest.mark.parametrize(("event", "name", "after_s"), POINTS)
def test_after_a_kill_gc_leaves_nothing(
    bakehouse: Bakehouse, minimal: dict[str, Any], event: str, name: str | None, after_s: float
) -> None:
    kill(bakehouse, event, name, after_s)
    bakehouse.must("gc", "--bakes", "--yes")
    until(lambda: not list(bakehouse.processes()), what="the end of what the bake had started", timeout_s=30)
    assert bakehouse.left_overs() == []
    images = {image["name"] for image in bakehouse.must("images", "--json").result}
    assert minimal["image"] in images
    assert not any(image.startswith("works-") for image in images)


@pytest.mark.matrix(sample=1, edges=["step-started-trouble-1.0"])
@pytest.mark.parametrize(("event", "name", "after_s"), POINTS[1:])
@pytest.mark.usefixtures("minimal")
def test_after_a_kill_the_bake_is_resumed(bakehouse: Bakehouse, event: str, name: str | None, after_s: float) -> None:
    kill(bakehouse, event, name, after_s)
    (killed,) = [bake for bake in bakehouse.must("bakes", "--json").result if bake["state"] == "killed"]
    image = bakehouse.must("bake", "--resume", killed["id"], "--json").result["image"]
    until(lambda: not list(bakehouse.processes()), what="the end of what the bake had started", timeout_s=30)
    assert bakehouse.left_overs() == []
    made = [one for one in bakehouse.must("images", "--recipe", "works", "--json").result if one["state"] == "stable"]
    assert [one["name"] for one in made] == [image]
    assert [bake for bake in bakehouse.must("bakes", "--json").result if bake["state"] == "killed"] == []
    bakehouse.must("delete-image", image, "--yes")
