"""A bake and a launch on AWS, as its user runs them: the strict EC2 server, with real machines behind it that run cloud-init."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bakery.proof.seal import find_leaks
from clouds.local.disk.contents import DiskContents
from tests.servers.qemu import PORTS
from tests.vm.amazon import Amazon, amazon

pytestmark = pytest.mark.vm

NAME = "lab"


@pytest.fixture(scope="module")
def cloud(vm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazon]:
    """Give AWS with real machines."""
    with amazon(vm_home, tmp_path_factory.mktemp("amazon")) as made:
        yield made


@pytest.fixture(scope="module")
def image(cloud: Amazon) -> dict[str, Any]:
    """Give the result of a bake of `minimal`."""
    result: dict[str, Any] = cloud.must("bake", "--recipe", "minimal", "--json", timeout_s=3000).result
    return result


@pytest.fixture(scope="module")
def machine(cloud: Amazon, image: dict[str, Any]) -> dict[str, Any]:
    """Give a machine that was launched from it."""
    launched: dict[str, Any] = cloud.must("launch", "--recipe", "minimal", "--name", NAME, "--json", timeout_s=900).result
    return launched


def test_a_bake_leaves_an_image_without_secrets_and_nothing_else(cloud: Amazon, image: dict[str, Any], tmp_path: Path) -> None:
    assert (image["image"], image["cloud"]) == (f"minimal-{image['version']}", "aws")
    assert cloud.left() == []
    (snapshot,) = (line.split()[1].rpartition("/")[2] for line in cloud.server.inventory() if line.startswith("snapshots "))
    (disk,) = cloud.vms.image_disk("x").parent.glob("image-snap-*.qcow2")
    assert snapshot
    files = DiskContents(disk, tmp_path)
    assert len(files.list()) > 10_000
    assert find_leaks(files) == []


def test_a_machine_is_reached_by_ssh_alone(cloud: Amazon, machine: dict[str, Any]) -> None:
    assert (machine["name"], machine["cloud"]) == (NAME, "aws")
    assert cloud.must("ssh", NAME, "--", "hostname", timeout_s=120).stdout.strip() == NAME
    address = cloud.server.instance(NAME).public_ip
    assert [port for port in (*PORTS, *range(1, 1024)) if _answers(address, port)] == [22, 22]


def _answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def test_a_stopped_machine_starts_again_with_its_files(cloud: Amazon, machine: dict[str, Any]) -> None:
    assert machine["name"]
    cloud.must("ssh", NAME, "--", "touch kept; sync", timeout_s=120)
    cloud.must("stop", NAME, timeout_s=600)
    assert cloud.server.instance(NAME).state == "stopped"
    cloud.must("start", NAME, timeout_s=900)
    assert cloud.must("ssh", NAME, "--", "ls", timeout_s=120).stdout.strip() == "kept"


def test_a_deleted_machine_and_image_leave_nothing(cloud: Amazon, machine: dict[str, Any], image: dict[str, Any]) -> None:
    assert machine["name"]
    cloud.must("delete", NAME, "--yes", timeout_s=600)
    cloud.must("delete-image", image["image"], "--yes")
    assert cloud.server.inventory() == []
    assert "nothing" in cloud.must("gc", "--yes").stdout + cloud.must("gc", "--yes").stderr
