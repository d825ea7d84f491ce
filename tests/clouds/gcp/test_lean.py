"""What the driver loads, and how much it asks: of Google's library only what a command needs, and nothing before it asks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from clouds.gcp import machines
from clouds.gcp.client import Client
from clouds.gcp.images import Images
from clouds.gcp.places import places
from launcher.access import identity
from tests.clouds.gcp.stage import Cloud, bake_tiny, launch_tiny
from tests.servers.gce.server import Gce, serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms

LIBRARIES = ("google", "grpc", "proto", "requests", "urllib3", "googleapiclient")
SERVICES = "google.cloud.compute_v1.services."
_CONNECT = """
import json, sys
from pathlib import Path
from clouds import gcp
from clouds.driver import Kind
cloud = gcp.connect(Path(sys.argv[1]), {"project": "demo", "endpoint": sys.argv[2]})
"""
_TELL = "print(json.dumps(sorted(sys.modules)))"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gce]:
    monkeypatch.setenv("BAKEHOUSE_HOME", str(tmp_path))
    monkeypatch.setattr(machines, "FRESH_S", 60.0)
    with serve(vms=ScriptedVms(played([])), operation_s=0.001) as found:
        yield found
    assert found.crashes == []


def loaded(code: str, *arguments: str) -> set[str]:
    """Return the modules that a fresh process has loaded after this."""
    command = [sys.executable, "-c", code + _TELL, *arguments]
    return set(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout))


def of(packages: tuple[str, ...], modules: set[str]) -> list[str]:
    return sorted(name for name in modules if any(name == one or name.startswith(f"{one}.") for one in packages))


def test_connecting_loads_no_library(tmp_path: Path) -> None:
    assert of(LIBRARIES, loaded(_CONNECT, str(tmp_path), "http://127.0.0.1:9")) == []


def test_first_request_loads_the_client_that_it_needs_and_no_others(tmp_path: Path, server: Gce) -> None:
    modules = loaded(_CONNECT + 'cloud.find(Kind.MACHINE, "none")\n', str(tmp_path), server.url)
    assert server.count("compute.instances.aggregatedList") == 1
    services = {name.removeprefix(SERVICES).partition(".")[0] for name in modules if name.startswith(SERVICES)}
    assert services == {"instances", "zone_operations"}  # that of instances imports the other one
    assert of(("googleapiclient",), modules) == []


def test_local_cloud_loads_no_library_of_googles(tmp_path: Path) -> None:
    code = "import json, sys\nfrom pathlib import Path\nfrom clouds import local\nlocal.connect(Path(sys.argv[1]), {})\n"
    assert of(LIBRARIES, loaded(code, str(tmp_path))) == []


def connect(server: Gce, home: Path) -> Cloud:
    client, where = Client("demo", server.url), places({"project": "demo"})
    return Cloud(client, where, Images(client, where.region, home / "gcp" / "bases.json"))


def test_bake_and_launch_ask_nothing_twice(tmp_path: Path, server: Gce) -> None:
    identity.user_key(tmp_path)
    bake_tiny(connect(server, tmp_path), tmp_path)
    baked = asked(server)
    assert (baked["instances.get"], baked["images.get"], baked["instances.getSerialPortOutput"]) == (3, 1, 3)
    server.calls.clear()
    launch_tiny(connect(server, tmp_path), tmp_path)
    assert asked(server) == {
        "images.list": 1,  # the newest image
        "instances.aggregatedList": 2,  # is the name free; which machines does ssh know
        "firewalls.insert": 1,
        "instances.insert": 1,
        "globalOperations.wait": 1,
        "zoneOperations.wait": 3,
        "instances.getSerialPortOutput": 1,
        "instances.setLabels": 1,
        "networks.get": 1,  # an instance in a network that is not there is refused with the same code as other faults
        "disks.get": 1,  # the labels of a disk have a fingerprint of their own,
        "disks.setLabels": 1,  # and gc judges a disk without a machine by them
    }


def asked(server: Gce) -> Counter[str]:
    """Return how often each method was asked for."""
    return Counter(call.method.removeprefix("compute.") for call in server.calls)
