"""Messages of a cloud whose machines run on this computer, before one is launched or started."""

from pathlib import Path

import pytest

from clouds.ledger import Ledger
from launcher.images import find_image
from launcher.launch import LaunchOptions, launch
from launcher.notices import new_notices
from launcher.power import start, stop
from tests.fake_cloud import FakeCloud
from tests.fake_world import World

SLOW = "KVM is not used"
LOGOUT = "the machine ends at your logout"


class HereCloud(FakeCloud):
    """A cloud whose machines run on this computer (clouds.capabilities.RunsHere)."""

    accelerator_name = "tcg"

    def notices(self) -> list[str]:
        return [SLOW]

    def logout_notices(self) -> list[str]:
        return [LOGOUT]


@pytest.fixture
def here(fake: FakeCloud, world: World) -> FakeCloud:
    return HereCloud(world)


def test_launch_warns_that_log_out_kills_the_machine(here: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    launch(here, ledger, LaunchOptions(name="one"), tell=told.append)
    assert told[:2] == [SLOW, LOGOUT]


def test_notices_are_told_once_by_a_process_that_bakes_and_launches(here: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    for name in ("one", "two"):
        launch(here, ledger, LaunchOptions(name=name), tell=told.append)
    assert told.count(SLOW) == 1
    assert new_notices(here, Path("/elsewhere")) == [SLOW]


def test_machines_of_a_bake_are_launched_without_notices(here: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    image, labels = find_image(here, recipe="jupyter"), {"role": "test", "bake": "bake-abc"}
    options = LaunchOptions(name="test-abc", image=image, labels=labels, nonce="a" * 32)
    launch(here, ledger, options, tell=told.append)
    assert not {SLOW, LOGOUT} & set(told)


def test_start_warns_too_but_not_for_a_running_machine(here: FakeCloud, ledger: Ledger, jupyter: str) -> None:
    told: list[str] = []
    launch(here, ledger, LaunchOptions(name="one"))
    start(here, "one", tell=told.append)
    assert told == []
    stop(here, "one")
    start(here, "one", tell=told.append)
    assert told == [LOGOUT]
