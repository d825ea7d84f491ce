"""Clouds for the verbs."""

from __future__ import annotations

from pathlib import Path

import pytest

import clouds
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image


@pytest.fixture
def cloud(fake: FakeCloud, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Let verbs use the fake cloud."""
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: fake)
    return fake


@pytest.fixture
def far(remote: RemoteCloud, far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> RemoteCloud:
    """Let verbs use a remote cloud with a running machine `one`."""
    monkeypatch.setattr(clouds, "connect", lambda _name, _given=None: remote)
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(remote, "one")
    return remote
