"""Fresh stages for whole bakes and launches (tests/clouds/aws/stage.py)."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bakery import shipment, watch
from clouds import lifecycle, waiter
from clouds.aws import leftovers, session
from launcher import boot
from launcher.access import identity
from tests import fake_sftp
from tests.clouds.aws.stage import Clock, Stage
from tests.servers.ec2 import serve
from tests.servers.guests import played_on_ec2
from tests.servers.vm import ScriptedVms


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store that has an SSH key, which takes long to make."""
    home = tmp_path_factory.mktemp("furnished")
    identity.user_key(home)
    return home


@pytest.fixture(scope="session")
def loader() -> Callable[..., Any]:
    """Give what loads botocore's descriptions of services, each once: the description of EC2 takes half a second."""
    from botocore.loaders import create_loader  # type: ignore[import-untyped]

    return functools.cache(create_loader)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, loader: Callable[..., Any]) -> None:
    """Look often, and shorten what is waited for while nothing answers."""
    from botocore import session as botocore_session  # type: ignore[import-untyped]
    from botocore.retries.standard import ExponentialBackoff  # type: ignore[import-untyped]

    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setattr(waiter, "_THROTTLED_S", 0.05)
    monkeypatch.setattr(session, "ATTEMPTS", 2)
    monkeypatch.setattr(leftovers, "_YOUNG_S", 0.0)
    monkeypatch.setattr(botocore_session, "create_loader", loader)
    for kind in ("throttling_base_scale", "non_throttling_base_scale"):
        monkeypatch.setitem(ExponentialBackoff._DEFAULT_BACKOFF_CONFIG, kind, 0.002)


@pytest.fixture
def counted_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let waits for a machine or an operation end after a number of looks: as many on a slow computer, and soon.

    Files that are sent may take a minute there.
    """
    monkeypatch.setattr(shipment, "CONNECT_S", 3000)
    clock = Clock()
    for module in (boot, lifecycle, watch):
        monkeypatch.setattr(module, "until", functools.partial(waiter.until, clock=clock, sleep=clock.sleep))


@contextmanager
def staged(folder: Path, furnished: Path, *, state_s: float = 0.02) -> Iterator[Stage]:
    """Yield an empty cloud and a store of its own, which is BAKEHOUSE_HOME."""
    home, builders = folder / "home", fake_sftp.Store(folder / "builders")
    vms = ScriptedVms(played_on_ec2([], builders))
    shutil.copytree(furnished, home)
    with pytest.MonkeyPatch.context() as patch, serve(vms=vms, state_s=state_s, image_s=state_s, hang_s=0.1) as server:
        patch.setenv("PATH", f"{fake_sftp.install(folder / 'bin', builders.folder)}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("BAKEHOUSE_HOME", str(home))
        yield Stage(server, vms, home)
        assert server.crashes == []


@pytest.fixture
def stage(tmp_path: Path, furnished: Path, quick: None) -> Iterator[Stage]:
    """Give an empty cloud and a store of its own, and look often."""
    with staged(tmp_path, furnished) as made:
        yield made
