"""Commands that start or open a machine allow this computer through its firewall."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.driver import Wishes
from clouds.errors import DeniedError, UsageError
from clouds.ledger import Ledger
from launcher.access import tunnel
from launcher.launch import LaunchOptions, launch
from launcher.machines import notebook_url
from launcher.power import start, stop, suspend
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one


class Guarded(RemoteCloud):
    """A remote cloud with a firewall; `asked` holds the requests to allow an address."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.asked: list[tuple[str, str]] = []
        self.refuses = False

    def admit(self, machine: str, source: str = "") -> str:
        if self.refuses:
            raise DeniedError("no permission")
        self.asked.append((machine, source))
        return f"admits {source or 'you'}"


@pytest.fixture
def guarded(world: World, jupyter: str, far_ssh: Path) -> Guarded:
    """Launch a machine `one` behind a firewall."""
    cloud = Guarded(world)
    launch_one(cloud, "one")
    return cloud


@pytest.mark.parametrize("before", [None, stop, suspend])
def test_start_allows_this_computer_and_reports_it(guarded: Guarded, before: object) -> None:
    if callable(before):
        before(guarded, "one")
    told: list[str] = []
    start(guarded, "one", tell=told.append)
    assert guarded.asked == [("one", "")]
    assert told == ["admits you"]


def test_start_admits_the_addresses_that_are_given(guarded: Guarded) -> None:
    start(guarded, "one", source="203.0.113.0/24")
    assert guarded.asked == [("one", "203.0.113.0/24")]


def test_open_admits_this_computer_where_no_tunnel_lives(guarded: Guarded) -> None:
    notebook_url(guarded, "one")
    assert guarded.asked == []
    tunnel.close(guarded, "one")
    told: list[str] = []
    notebook_url(guarded, "one", told.append)
    assert told == ["admits you"]


def test_open_admits_this_computer_to_a_notebook_that_answers_with_tls(guarded: Guarded, ledger: Ledger) -> None:
    launch(guarded, ledger, LaunchOptions(recipe="jupyter", name="two", wishes=Wishes(https_port=8443)))
    notebook_url(guarded, "two")
    assert guarded.asked == [("two", "")]


def test_firewall_that_cannot_be_asked_is_said_and_is_an_error_only_for_given_addresses(guarded: Guarded) -> None:
    guarded.refuses = True
    told: list[str] = []
    start(guarded, "one", tell=told.append)
    assert told == ["machine 'one': could not check its firewall: no permission"]
    with pytest.raises(DeniedError):
        start(guarded, "one", source="203.0.113.7")


def test_cloud_without_a_firewall_takes_no_addresses(fake: FakeCloud, jupyter: str) -> None:
    launch_one(fake, "one")
    with pytest.raises(UsageError, match="--source: not supported by cloud 'fake'"):
        start(fake, "one", source="203.0.113.7")
