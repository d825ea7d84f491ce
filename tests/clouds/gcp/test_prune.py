"""prune, pins and lists of packages on Google Cloud, whose machines do not need their image."""

from __future__ import annotations

import time

import pytest

import clouds
from bakery.order import BakeOptions
from clouds.driver import Kind
from clouds.ledger import Ledger
from launcher.images import find_image, pin
from launcher.packages import read
from launcher.prune import Rules, Survey, collect, survey
from tests.cli.verbs import run
from tests.clouds.gcp.stage import NewStage, Stage, Wire, bake_tiny, launch_tiny
from tests.fake_cloud import PACKAGES, Killed

pytestmark = pytest.mark.server
ONE = Rules(keep=1)


@pytest.fixture
def stage(new_stage: NewStage) -> Stage:
    """Give a cloud with two stable images, of which the older has a machine."""
    made = new_stage("launch")
    launch_tiny(made.connect(), made.home)
    bake_tiny(made.connect(), made.home, options=BakeOptions(force=True))
    assert images(made) == ["tiny-0-1-0-1", "tiny-0-1-0-2"]
    return made


def images(stage: Stage) -> list[str]:
    return [line.split()[0] for line in stage.there("images")]


def prune(stage: Stage, wire: Wire | None = None) -> Survey:
    cloud = stage.connect(wire)
    found = survey(cloud, ONE, now=time.time())
    collect(cloud, Ledger(stage.home / "ledger.sqlite3"), found)
    return found


def test_an_image_goes_although_a_machine_of_it_is_running(stage: Stage) -> None:
    [gone] = prune(stage).goes
    assert images(stage) == ["tiny-0-1-0-2"]
    assert not (stage.home / f"packages/{gone.labels['bake']}.cdx.json").exists()
    assert stage.there("instances") == ["us-central1-a/mine RUNNING"]


def test_an_image_from_which_a_builder_has_started_stays(stage: Stage) -> None:
    cloud = stage.connect()
    cloud.label(Kind.MACHINE, "mine", {"role": "builder"})
    assert next(reason for _, reason in survey(cloud, ONE, now=time.time()).stays) == "in use by mine"


def test_a_pin_is_seen_by_every_computer(stage: Stage) -> None:
    pin(stage.connect(), "tiny-0.1.0-1", pinned=True)
    assert prune(stage).goes == ()
    pin(stage.connect(), "tiny-0.1.0-1", pinned=False)
    assert [image.name for image in prune(stage).goes] == ["tiny-0.1.0-1"]


def test_the_list_of_packages_is_kept_by_the_computer_that_bakes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    image = find_image(stage.connect(), recipe="tiny")
    assert read(stage.home, image) == PACKAGES.decode()
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: stage.connect())
    assert run("diff", old="tiny-0.1.0-1", new="tiny-0.1.0-2") == (0, "", "the same packages\n")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "method", ["images.list", "images.get", "images.delete", "instances.aggregatedList", "globalOperations.wait"]
)
def test_a_prune_that_is_killed_is_finished_by_the_next(stage: Stage, method: str, when: str) -> None:
    def strike(called: str, _nth: int, at: str) -> None:
        if (called, at) == (method, when):
            wire.die()

    wire = Wire(stage.server, strike)
    with pytest.raises(Killed):
        prune(stage, wire)
    prune(stage)
    assert images(stage) == ["tiny-0-1-0-2"]
    assert prune(stage).goes == ()
