"""The contract where a zone of a cloud cannot be reached: the same answers from each cloud that has zones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

from clouds import names
from clouds.driver import BootSpec, Cloud, Kind
from clouds.errors import NotFoundError, UnreachableError
from clouds.gcp.client import Client
from clouds.gcp.driver import GoogleCloud
from clouds.gcp.images import Images
from clouds.gcp.places import places
from clouds.lifecycle import settle
from tests.contract.bench import Bench
from tests.contract.conftest import check_clean
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.servers.gce.server import serve
from tests.servers.guests import played
from tests.servers.vm import ScriptedVms

ABSENT = "contract-there-is-none"


class Wire(HTTPAdapter):
    """A way to Compute Engine on which zones are missing from the aggregated lists, as the service writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.cut: set[str] = set()

    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        answer = super().send(request, *args, **more)
        if "/aggregated/" not in urlsplit(str(request.url)).path or not self.cut:
            return answer
        page = answer.json()
        for zone in self.cut:
            page["items"][f"zones/{zone}"] = {"warning": {"code": "UNREACHABLE"}}
        answer._content = json.dumps(page | {"unreachables": [f"zones/{zone}" for zone in self.cut]}).encode()
        return answer


@dataclass(frozen=True, slots=True)
class Zoned:
    """A cloud with a machine in each of two zones; `cut` says which zones cannot be reached from now on."""

    bench: Bench
    cut: Callable[[set[str]], None]
    here: BootSpec
    there: BootSpec

    @property
    def cloud(self) -> Cloud:
        return self.bench.cloud


def _faked(kind: type[FakeCloud], stack: ExitStack, folder: Path) -> tuple[Cloud, Callable[[set[str]], None], tuple[str, str]]:
    cloud = kind(World(folder))

    def cut(zones: set[str]) -> None:
        cloud.unreachable = zones

    return cloud, cut, ("near-1", "near-2")


def _gcp(stack: ExitStack, folder: Path) -> tuple[Cloud, Callable[[set[str]], None], tuple[str, str]]:
    server = stack.enter_context(serve(vms=ScriptedVms(played([]))))
    stack.callback(lambda: check_clean(server))
    wire, where = Wire(), places({"project": "demo"})
    client = Client("demo", server.url, adapter=wire)

    def cut(zones: set[str]) -> None:
        wire.cut = zones
        cloud._machines._zones.clear()  # as a new command, which has seen no machine yet
        cloud._machines._seen.clear()

    cloud = GoogleCloud(client, where, Images(client, where.region, folder / "bases.json"))
    return cloud, cut, ("us-central1-a", "us-central1-b")


@pytest.fixture(params=["fake", "faraway", "gcp"])
def zoned(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Zoned]:
    with ExitStack() as stack:
        make = {"fake": lambda: _faked(FakeCloud, stack, tmp_path), "faraway": lambda: _faked(RemoteCloud, stack, tmp_path)}
        cloud, cut, zones = make.get(request.param, lambda: _gcp(stack, tmp_path))()
        bench = Bench(cloud, {"project": names.PROJECT, "role": "test", "contract": names.new_nonce()})
        here, there = (replace(bench.spec(), zone=zone, ports=()) for zone in zones)
        for spec in (here, there):
            settle(cloud, cloud.boot(spec))
        cut({zones[1]})
        yield Zoned(bench, cut, here, there)
        cut(set())
        bench.remove_all()


def test_what_was_found_comes_with_the_zones_that_were_not_reached(zoned: Zoned) -> None:
    with pytest.raises(UnreachableError) as raised:
        zoned.cloud.owned(zoned.bench.labels)
    assert [found.name for found in raised.value.found] == [zoned.here.name]
    assert raised.value.scopes == (zoned.there.zone,)


def test_images_are_in_no_zone(zoned: Zoned) -> None:
    assert zoned.cloud.owned(zoned.bench.labels, {Kind.IMAGE}) == []
    assert zoned.cloud.find(Kind.IMAGE, ABSENT) is None


def test_what_was_not_found_is_not_absent(zoned: Zoned) -> None:
    for name in (zoned.there.name, ABSENT):
        with pytest.raises(UnreachableError):
            zoned.cloud.find(Kind.MACHINE, name)
    found = zoned.cloud.find(Kind.MACHINE, zoned.here.name)
    assert found and found.zone == zoned.here.zone


def test_what_is_seen_can_be_removed(zoned: Zoned) -> None:
    settle(zoned.cloud, zoned.cloud.delete(Kind.MACHINE, zoned.here.name))
    zoned.cut(set())
    assert [found.name for found in zoned.cloud.owned(zoned.bench.labels)] == [zoned.there.name]


def test_with_all_zones_in_reach_what_is_absent_is_absent_again(zoned: Zoned) -> None:
    zoned.cut(set())
    assert zoned.cloud.find(Kind.MACHINE, ABSENT) is None
    with pytest.raises(NotFoundError):
        zoned.cloud.console(ABSENT)
