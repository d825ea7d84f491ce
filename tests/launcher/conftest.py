"""Fixtures of the launcher's tests: a ledger, and a cloud with one image."""

from __future__ import annotations

import pytest

from clouds.home import home
from clouds.ledger import Ledger
from tests.fake_world import World
from tests.launcher.given import put_image


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(home() / "ledger.sqlite3")


@pytest.fixture
def jupyter(world: World) -> str:
    """Give the cloud one stable image with a notebook, and return its name."""
    return put_image(world, "jupyter", "1.4.0-7")


@pytest.fixture
def minimal(world: World) -> str:
    """Give the cloud one stable image without a notebook, and return its name."""
    return put_image(world, "minimal", "1.4.0-2", notebook="0")
