"""`--accelerator` of the commands that start machines, or print how they would run."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

import clouds
from clouds.local.host import programs
from clouds.local.host.computer import Computer
from tests.cli.verbs import VERBS, run
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image


@pytest.mark.parametrize("verb", ["bake", "launch", "plan", "start"])
def test_each_of_them_takes_it(verb: str) -> None:
    assert "accelerator" in [flag.name for flag in VERBS[verb].flags]


@pytest.mark.parametrize("wanted", ["kvm", "tcg"])
def test_plan_shows_the_accelerator_of_the_flag(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setattr(programs, "this_computer", lambda: Computer("Linux", "x86_64", {"ID": "debian"}))
    monkeypatch.setenv("PATH", "/nonexistent")  # without QEMU nothing is probed
    monkeypatch.setattr(programs, "_SBIN", "/nonexistent")
    code, stdout, stderr = run("plan", recipe="minimal", accelerator=wanted)
    assert code == 0, stderr
    assert stdout.splitlines()[-1] == f"accelerator: {wanted}"


def test_plan_refuses_one_that_is_not_known() -> None:
    code, _, stderr = run("plan", recipe="minimal", accelerator="xen")
    assert code == 2
    assert stderr.startswith("error: --accelerator: 'xen' is not one of the choices (write kvm or tcg)\n")


def test_start_hands_it_to_its_cloud(fake: FakeCloud, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(fake, "one")
    given: list[Mapping[str, str]] = []
    monkeypatch.setattr(clouds, "connect", lambda _name=None, settings=None: given.append(settings) or fake)
    assert run("stop", name="one")[0] == 0
    assert run("start", name="one", accelerator="tcg")[0] == 0
    assert given == [{}, {"accelerator": "tcg"}]


@pytest.mark.parametrize("verb", ["plan", "start"])
def test_cloud_without_accelerators_refuses_it(verb: str) -> None:
    typed = {"name": "one"} if verb == "start" else {}
    code, _, stderr = run(verb, cloud="gcp", accelerator="tcg", **typed)
    assert code == 2
    assert stderr.startswith("error: --accelerator: not supported by cloud 'gcp'")
