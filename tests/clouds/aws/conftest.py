"""Fresh stages for whole bakes and launches (tests/clouds/aws/stage.py)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from clouds import waiter
from clouds.aws import session
from launcher.access import identity
from tests import fake_sftp
from tests.clouds.aws.stage import Stage
from tests.servers.ec2 import serve
from tests.servers.guests import played_on_ec2
from tests.servers.vm import ScriptedVms


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a store that has an SSH key, which takes long to make."""
    home = tmp_path_factory.mktemp("furnished")
    identity.user_key(home)
    return home


@pytest.fixture
def stage(tmp_path: Path, furnished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """Give an empty cloud and a store of its own, and look often."""
    monkeypatch.setitem(waiter.until.__kwdefaults__, "poll_s", 0.005)
    monkeypatch.setattr(waiter, "_THROTTLED_S", 0.05)
    monkeypatch.setattr(session, "ATTEMPTS", 2)  # the waits between them are real
    home, builders = tmp_path / "home", fake_sftp.Store(tmp_path / "builders")
    vms = ScriptedVms(played_on_ec2([], builders))
    monkeypatch.setenv("PATH", f"{fake_sftp.install(tmp_path / 'bin', builders.folder)}{os.pathsep}{os.environ['PATH']}")
    shutil.copytree(furnished, home)
    monkeypatch.setenv("BAKEHOUSE_HOME", str(home))
    with serve(vms=vms, hang_s=0.1) as server:
        yield Stage(server, vms, home)
        assert server.crashes == []
