"""The clouds that the contract is held against, and the machines and images that its tests share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clouds import names
from clouds.driver import BootSpec, Cloud, Limits
from clouds.lifecycle import stop_machine
from tests.contract.bench import Bench
from tests.fake_cloud import FakeCloud
from tests.fake_layers import LayeredCloud
from tests.fake_memory import MemoryCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2
    from tests.servers.gce.server import Gce

LATE_CALLS = 3
AWS = pytest.param("aws", marks=pytest.mark.server)
LOCAL = pytest.param("local", marks=pytest.mark.vm)


@pytest.fixture(scope="package", params=["fake", "late", "faraway", "gcp", AWS, LOCAL])
def bench(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Give each cloud in turn, the same to all files of the contract, and leave nothing on it."""
    with ExitStack() as stack:
        cloud = CLOUDS[request.param](request, stack, tmp_path_factory.mktemp("cloud"))
        made = Bench(cloud, {"project": names.PROJECT, "role": "test", "contract": names.new_nonce()})
        try:
            yield made
        finally:
            made.remove_all()
            assert cloud.owned(made.labels) == []


def _fake(_request: pytest.FixtureRequest, _stack: ExitStack, folder: Path) -> Cloud:
    return FakeCloud(World(folder))


def _late(_request: pytest.FixtureRequest, _stack: ExitStack, folder: Path) -> Cloud:
    """Return a cloud whose lists lag: the first look-ups of what it has created do not find it."""
    cloud = FakeCloud(World(folder, unseen=LATE_CALLS))
    cloud.limits = Limits(unseen_s=60)
    return cloud


def _local(request: pytest.FixtureRequest, _stack: ExitStack, _folder: Path) -> Cloud:
    from clouds.local import connect

    return connect(request.getfixturevalue("vm_home"))


def _gcp(_request: pytest.FixtureRequest, stack: ExitStack, folder: Path) -> Cloud:
    from clouds.gcp import connect
    from tests.servers.gce.server import serve
    from tests.servers.guests import played
    from tests.servers.vm import ScriptedVms

    server = stack.enter_context(serve(vms=ScriptedVms(played([]))))
    stack.callback(lambda: check_clean(server))
    return connect(folder, {"project": "demo", "endpoint": server.url})


def _aws(_request: pytest.FixtureRequest, stack: ExitStack, folder: Path) -> Cloud:
    from clouds.aws.client import Client
    from clouds.aws.driver import Aws
    from clouds.aws.places import places
    from tests.servers.ec2 import serve as serve_ec2
    from tests.servers.guests import played_on_ec2
    from tests.servers.vm import ScriptedVms

    server = stack.enter_context(serve_ec2(vms=ScriptedVms(played_on_ec2([]))))
    stack.callback(lambda: check_clean_ec2(server))
    client = Client("us-east-1", "", folder, arguments=server.client_arguments(), unseen_s=5)

    return Aws(client, places({}))


def _faraway(_request: pytest.FixtureRequest, _stack: ExitStack, folder: Path) -> Cloud:
    return RemoteCloud(World(folder))


def _keeping(_request: pytest.FixtureRequest, _stack: ExitStack, folder: Path) -> Cloud:
    return MemoryCloud(World(folder))


def _layered(_request: pytest.FixtureRequest, _stack: ExitStack, folder: Path) -> Cloud:
    return LayeredCloud(World(folder))


CLOUDS = {
    "fake": _fake,
    "late": _late,
    "faraway": _faraway,
    "keeping": _keeping,
    "layered": _layered,
    "local": _local,
    "gcp": _gcp,
    "aws": _aws,
}


def check_clean(server: Gce) -> None:
    """Check that a server has met nothing that it does not serve, and that it keeps nothing but our own network."""
    assert server.crashes == []
    assert [line for line in server.inventory() if "networks" not in line] == []


def check_clean_ec2(server: Ec2) -> None:
    """Check that a server has met nothing that it does not serve, and that it keeps nothing."""
    assert server.crashes == []
    assert server.inventory() == []


@pytest.fixture(scope="package")
def cloud(bench: Bench) -> Cloud:
    """Give the driver itself."""
    return bench.cloud


@pytest.fixture(scope="package")
def running(bench: Bench) -> BootSpec:
    """Give a machine that runs and has told so."""
    nonce = names.new_nonce()
    spec = bench.spec(nonce=nonce)
    bench.run(spec, nonce)
    return spec


@pytest.fixture(scope="package")
def stopped(bench: Bench) -> tuple[BootSpec, str]:
    """Give a machine that has run and was stopped, and its nonce."""
    nonce = names.new_nonce()
    spec = bench.spec(nonce=nonce)
    bench.run(spec, nonce)
    stop_machine(bench.cloud, spec.name)
    return spec, nonce


@pytest.fixture(scope="package")
def image(bench: Bench, stopped: tuple[BootSpec, str]) -> str:
    """Give an image of the machine that was stopped."""
    name = f"contract-1.0-{int(bench.labels['contract'][:6], 16)}"
    bench.snapshot(stopped[0].name, name, version="1.0-1")
    return name


@pytest.fixture
def other(bench: Bench, running: BootSpec) -> BootSpec:
    """Give an order that asks for the name of the running machine with a token of its own."""
    return replace(running, token=names.new_nonce())
