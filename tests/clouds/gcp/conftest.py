"""Fresh stages for whole bakes and launches (tests/clouds/gcp/stage.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clouds import names, waiter
from clouds.gcp import machines, operations
from launcher.access import identity
from tests import fake_sftp
from tests.clouds.gcp.stage import NewStage, Stage, bake_tiny
from tests.servers.gce.server import serve
from tests.servers.gce.store import copied
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


@pytest.fixture(scope="session")
def baked(tmp_path_factory: pytest.TempPathFactory, furnished: Path) -> Stage:
    """Give a cloud and a store with an image, to be copied."""
    home, vms = tmp_path_factory.mktemp("baked") / "home", ScriptedVms(played([]))
    shutil.copytree(furnished, home)
    with pytest.MonkeyPatch.context() as patch, serve(vms=vms, operation_s=0.005) as server:
        patch.setenv("BAKEHOUSE_HOME", str(home))
        stage = Stage(server, vms, home)
        bake_tiny(stage.connect(), home)
    return stage


@pytest.fixture
def new_stage(request: pytest.FixtureRequest, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[NewStage]:
    """Yield new clouds with separate stores; for a launch, one with an image."""
    running = []

    def make(work: str = "bake", store: type[fake_sftp.Store] = fake_sftp.Store, **settings: Any) -> Stage:
        model: Stage | None = request.getfixturevalue("baked") if work == "launch" else None
        folder = tmp_path / names.new_nonce()
        home, builders = folder / "home", store(folder / "builders")
        vms = ScriptedVms(played([], builders))
        monkeypatch.setenv("PATH", f"{fake_sftp.install(folder / 'bin', builders.folder)}{os.pathsep}{os.environ['PATH']}")
        shutil.copytree(model.home if model else request.getfixturevalue("furnished"), home)
        monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
        context = serve(vms=vms, **{"operation_s": 0.005, **settings})
        running.append((context, context.__enter__()))
        stage = Stage(running[-1][1], vms, home, store=builders)
        if model:
            stage.server.cloud.store.things = copied(model.server.cloud.store.things)
            vms.images = dict(model.vms.images)
        return stage

    yield make
    for context, server in running:
        context.__exit__(None, None, None)
        assert server.crashes == []
