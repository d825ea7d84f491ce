"""Verbs that name a machine, an image or a disk on a cloud with regions: where they look, and what they say about `--region`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

import clouds
from clouds.accounts import account_key
from clouds.errors import UsageError
from clouds.home import home
from launcher.access.identity import known_hosts, pin
from launcher.command.tables import machine_row
from launcher.machines import MachineView
from tests.cli.verbs import VERBS, run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image

HERE, THERE, BEYOND = "near-1", "far-1", "far-2"
"""The region of the settings, and two more."""
NAMED = {
    **{verb: {"name": "lab"} for verb in ("ssh", "check-machine", "open", "password", "stop", "start")},
    "delete": {"name": "lab", "yes": True},
    "copy": {"source": "lab:a", "destination": "."},
    "log": {"id": "lab"},
    "delete-image": {"image": "lab", "yes": True},
    **{verb: {"image": "lab"} for verb in ("packages", "pin", "unpin")},
    "diff": {"old": "lab", "new": "lab"},
    "delete-disk": {"disk": "lab", "yes": True},
    "delete-address": {"address": "lab", "yes": True},
}
"""The verbs that name something in a cloud, with what is typed."""


class ManyRegions(FakeCloud):
    """A client of one region of an account, "" if the settings name none; each region is a `World`."""

    def __init__(self, worlds: Mapping[str, World], region: str = HERE, number: str = "123") -> None:
        super().__init__(worlds[region or HERE])
        self.worlds, self._region, self._number = worlds, region, number

    @property
    def account(self) -> str:  # type: ignore[override]
        return f"{self._number}.{self.region()}"

    def region(self) -> str:
        if not self._region:
            raise UsageError("no region is set")
        return self._region

    def regions(self) -> list[str]:
        return sorted(self.worlds)

    def in_region(self, region: str) -> ManyRegions:
        return ManyRegions(self.worlds, region, self._number)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ManyRegions:
    """Let verbs use a cloud with regions; return its client for one that is not in the settings, which has an image."""
    worlds = {region: World(tmp_path / region) for region in (HERE, THERE, BEYOND)}
    monkeypatch.setattr(clouds, "configured", list)
    monkeypatch.setattr(clouds, "connect", lambda _=None, given=None: ManyRegions(worlds, (given or {}).get("region", HERE)))
    put_image(worlds[THERE], "jupyter", "1.4.0-7")
    return ManyRegions(worlds, THERE)


def forget_all() -> None:
    """Make this computer one that has launched nothing."""
    shutil.rmtree(home() / "ssh/known_hosts")


def test_machine_that_this_computer_launched_in_another_region_is_found_by_its_name(far: ManyRegions) -> None:
    code, stdout, stderr = run("launch", name="lab", region=THERE)
    assert code == 0, stderr
    assert f"./inv ssh lab --region {THERE}\n" in stdout
    assert f"lab is in {THERE}; to list the machines there: ./inv machines --region {THERE}\n" in stderr
    for verb in ("open", "log", "stop", "start"):
        code, _, stderr = run(verb, **NAMED[verb])
        assert code == 0, stderr
        assert verb != "stop" or f"To start it again: ./inv start lab --region {THERE}\n" in stderr
    assert run("delete", name="lab", yes=True)[0] == 0
    assert far.world.machines == {}
    assert run("stop", name="lab")[0] == 1  # its key is gone, so the name has no region any more


def test_machine_is_found_by_its_name_although_no_setting_names_a_region(far: ManyRegions, monkeypatch: pytest.MonkeyPatch) -> None:
    launch_one(far, "lab")
    monkeypatch.setattr(clouds, "connect", lambda _=None, given=None: ManyRegions(far.worlds, (given or {}).get("region", "")))
    assert run("stop", name="lab")[0] == 0
    code, _, stderr = run("stop", name="other")
    assert (code, stderr) == (2, "error: no region is set\n")


def test_machine_of_another_computer_is_found_with_its_region(far: ManyRegions) -> None:
    launch_one(far, "lab")
    forget_all()
    code, _, stderr = run("stop", name="lab")
    assert code == 1
    assert stderr == (
        f"error: machine 'lab' not found on fake in {HERE}\n"
        "next: See: ./inv machines\n"
        "      If it is in another region, add --region REGION. To look in all of them: ./inv machines --region all\n"
    )
    code, _, stderr = run("stop", name="lab", region=THERE)
    assert (code, f"./inv start lab --region {THERE}\n" in stderr) == (0, True)


@pytest.mark.parametrize("verb", NAMED)
def test_every_verb_that_does_not_find_a_name_says_how_to_look_elsewhere(far: ManyRegions, verb: str) -> None:
    code, _, stderr = run(verb, **NAMED[verb])
    assert code == 1
    assert f"found on fake in {HERE}\n" in stderr
    assert "If it is in another region, add --region REGION." in stderr
    code, _, stderr = run(verb, region=BEYOND, **NAMED[verb])
    assert (code, f"found on fake in {BEYOND}\n" in stderr) == (1, True)


def test_the_verbs_that_name_something_are_these() -> None:
    assert {name for name, verb in VERBS.items() if verb.positionals} == NAMED.keys()


def test_machine_in_the_region_of_the_settings_comes_first(far: ManyRegions) -> None:
    put_image(far.worlds[HERE], "jupyter", "1.4.0-7")
    for region in (THERE, HERE):
        launch_one(far.in_region(region), "lab")
    assert run("delete", name="lab", yes=True)[0] == 0
    assert [*far.worlds[HERE].machines, *far.worlds[THERE].machines] == ["lab"]
    assert list(far.world.machines) == ["lab"]


def test_name_that_is_known_in_several_other_regions_needs_the_flag(far: ManyRegions) -> None:
    for region in (THERE, BEYOND):
        pin(home(), account_key(far.in_region(region)), "lab", "ssh-ed25519 AAAA")
    code, _, stderr = run("stop", name="lab")
    assert code == 2
    assert stderr == (
        f"error: machine 'lab': fake has one in each of the regions {THERE}, {BEYOND}\n"
        f"next: Choose one of them, such as: --region {THERE}\n"
    )


def test_machine_of_another_account_has_no_region_here(far: ManyRegions) -> None:
    theirs = ManyRegions(far.worlds, THERE, number="1234")
    launch_one(theirs, "lab")
    assert known_hosts(home(), account_key(theirs), "lab").exists()
    code, _, stderr = run("stop", name="lab")
    assert (code, f"not found on fake in {HERE}\n" in stderr) == (1, True)


def test_a_name_that_no_machine_has_here_takes_no_request_for_the_account(
    far: ManyRegions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ManyRegions, "region", lambda self: pytest.fail("asked for"))
    (home() / "bakes/bake-1").mkdir(parents=True)
    (home() / "bakes/bake-1/console.log").write_text("it ran")
    assert run("log", id="bake-1")[:2] == (0, "--- console.log\nit ran\n")


@pytest.mark.parametrize("verb", ["stop", "delete-image", "machines", "gc"])
def test_cloud_that_finds_everything_without_the_flag_refuses_it(cloud: FakeCloud, verb: str) -> None:
    code, _, stderr = run(verb, region=THERE, **NAMED.get(verb, {}))
    assert (code, cloud.calls) == (2, [])
    assert stderr == f"error: --region {THERE}: cloud 'fake' finds everything without it (leave it out)\n"


def test_image_for_a_launch_in_a_region_is_baked_there(far: ManyRegions) -> None:
    code, _, stderr = run("launch", region=BEYOND)
    assert code == 1
    assert f"error: recipe 'jupyter' has no stable image on fake in {BEYOND}\n" in stderr
    assert f"./inv bake --recipe jupyter --region {BEYOND}\n" in stderr


def test_lists_of_one_region_name_it(far: ManyRegions) -> None:
    launch_one(far, "lab")
    code, stdout, _ = run("machines", region=THERE)
    assert (code, stdout.split()[3], THERE in stdout) == (0, "REGION", True)
    assert run("machines", region=BEYOND)[2] == f"no machines; to launch one: ./inv launch --region {BEYOND}\n"


def test_way_to_a_notebook_names_its_region() -> None:
    labels = {"notebook": "1", "role": "machine"}
    machine = MachineView(
        name="lab", state="running", cloud="aws", url=None, image="i", left_s=None, labels=labels, region="eu-west-1"
    )
    assert machine_row(machine, names_cloud=True)["url"] == "./inv open lab --cloud aws --region eu-west-1"


def test_ended_bake_is_listed_once_for_all_regions(far: ManyRegions) -> None:
    folder = home() / "bakes/bake-k7m2px9a"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text('{"cloud": "fake", "image": "tiny-1.0-1", "version": "1.0-1"}')
    (listed,) = json.loads(run("bakes", json=True, region="all")[1])
    assert (listed["id"], listed["recipe"], listed["region"]) == ("bake-k7m2px9a", "tiny", "")
