"""Fresh stages for whole bakes and launches (tests/clouds/gcp/stage.py)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clouds import names, waiter
from clouds.gcp import machines, operations
from launcher import identity
from tests.clouds.gcp.stage import NewStage, Stage, bake_tiny
from tests.servers.gce.server import serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, and shorten what is waited for while nothing answers."""
    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setattr(waiter, "_THROTTLED_S", 0.05)
    monkeypatch.setattr(operations, "_FINISH_S", 1.0)
    monkeypatch.setattr(machines, "GRACE_S", 0.2)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store that has an SSH key, which takes long to make."""
    home = tmp_path_factory.mktemp("furnished")
    identity.user_key(home)
    return home


@pytest.fixture
def new_stage(tmp_path: Path, furnished: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewStage]:
    """Give fresh clouds, each with a store of its own; for a launch there is an image."""
    running = []

    def make(work: str = "bake", **settings: Any) -> Stage:
        home = tmp_path / names.new_nonce() / "home"
        shutil.copytree(furnished, home)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        vms = ScriptedVms(played([]))
        context = serve(vms=vms, **{"operation_s": 0.005, **settings})
        running.append((context, context.__enter__()))
        stage = Stage(running[-1][1], vms, home)
        if work == "launch":
            bake_tiny(stage.connect(), home)
        return stage

    yield make
    for context, server in running:
        context.__exit__(None, None, None)
        assert server.crashes == []
