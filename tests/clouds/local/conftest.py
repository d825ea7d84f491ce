"""A local cloud with one small base; no QEMU runs in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.local.driver import LocalCloud
from clouds.local.store import Store
from tests.clouds.local.small import make_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return the store of the cloud."""
    return make_store(tmp_path / "local")


@pytest.fixture
def cloud(store: Store) -> LocalCloud:
    """Return a client of the cloud."""
    return LocalCloud(store.folder)
