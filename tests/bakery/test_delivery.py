"""A whole bake whose scripts go over SSH: at the boot, and at each checkpoint where a cloud keeps layers."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from bakery.bake import Baked, bake
from bakery.order import BakeOptions
from bakery.recipe.recipe import Builder, Copy, Recipe, Step, Test
from clouds.driver import Limits, Ticket
from clouds.errors import CloudError, InvalidError, ThrottledError, TimedOutError
from tests import fake_sftp
from tests.fake_cloud import FakeCloud
from tests.fake_guest import CONTENT
from tests.fake_layers import LayeredCloud
from tests.fake_world import World

pytestmark = pytest.mark.program

SMALL = Limits(script_bytes=8192)


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    (tmp_path / "data").write_bytes(os.urandom(20_000))
    copy = Copy(**{"from": "data", "to": "/opt/data"})
    return Recipe(name="small", folder=tmp_path, steps=(Step(name="first", run="true"), Step(name="files", copy=(copy,))))


def bake_on(kind: type[FakeCloud], folder: Path, recipe: Recipe, limits: Limits, monkeypatch: pytest.MonkeyPatch) -> FakeCloud:
    """Bake in a world of its own; return the cloud."""
    programs = fake_sftp.install(folder / "bin", folder / "world/builders")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BAKEHOUSE_HOME", str(folder / "home"))
    cloud = kind(World(folder / "world"))
    cloud.limits = limits
    made = bake(cloud, recipe, BakeOptions(), home=folder / "home")
    assert isinstance(made, Baked)
    return cloud


def image(cloud: FakeCloud) -> tuple[str, bytes]:
    """Return the digest and the content of the one image."""
    (found,) = cloud.world.images.values()
    return found.labels["script"], found.disk[CONTENT]


@pytest.mark.parametrize("kind", [FakeCloud, LayeredCloud])
def test_the_image_is_the_same_whichever_way_its_script_took(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, kind: type[FakeCloud]
) -> None:
    plain = bake_on(kind, tmp_path / "plain", recipe, Limits(), monkeypatch)
    sent = bake_on(kind, tmp_path / "sent", recipe, SMALL, monkeypatch)
    assert image(plain) == image(sent)
    assert [kept.layer.key for kept in plain.world.layers.values()] == [kept.layer.key for kept in sent.world.layers.values()]
    assert sent.world.open_to_ssh == set()
    assert sent.calls.count(next(call for call in sent.calls if call.startswith("open_ssh"))) == (5 if kind is LayeredCloud else 1)
    assert not any(call.startswith("open_ssh") for call in plain.calls)


def test_an_address_that_changed_is_let_in_in_place_of_the_one_before(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A firewall that does not admit the caller drops what it sends: its first connection times out."""
    install = fake_sftp.install

    def gated(folder: Path, store: Path) -> Path:
        real = install(folder / "real", store) / "sftp"
        said = "ssh: connect to host 203.0.113.7 port 22: Connection timed out\\nConnection closed"
        (folder / "sftp").write_text(
            f"#!/bin/sh\n[ -e {folder}/tried ] && exec {real} \"$@\"\ntouch {folder}/tried\nprintf '{said}\\n' >&2\nexit 255\n"
        )
        (folder / "sftp").chmod(0o755)
        return folder

    monkeypatch.setattr(fake_sftp, "install", gated)
    sent = bake_on(FakeCloud, tmp_path / "sent", recipe, SMALL, monkeypatch)
    assert [call.split("(")[0].split()[0] for call in sent.calls if "_ssh" in call] == ["open_ssh", "close_ssh"] * 2
    assert sent.world.open_to_ssh == set()


@pytest.mark.parametrize("busy", [ThrottledError("too many requests", next_step="Try again."), TimedOutError("rule: timed out")])
def test_a_builder_that_cannot_be_opened_ends_the_bake_at_once_with_the_cause(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch, busy: CloudError | TimedOutError
) -> None:
    """The builder repeats its host key until it has everything, so its console is never silent."""
    clouds: list[FakeCloud] = []

    class Busy(FakeCloud):
        def open_ssh(self, machine: str) -> Ticket:
            clouds.append(self)
            raise busy

    with pytest.raises(CloudError, match=busy.message) as caught:
        bake_on(Busy, tmp_path / "sent", replace(recipe, builder=Builder(deadline_min=0.05)), SMALL, monkeypatch)
    assert caught.value.next_step
    assert len(clouds) == 1
    assert clouds[0].world.open_to_ssh == set()
    assert clouds[0].world.machines == {}


def test_a_builder_that_waits_is_sent_the_files_of_its_next_step_alone(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoints are boot, prepare, first, files, seal."""
    sent = bake_on(LayeredCloud, tmp_path / "sent", recipe, SMALL, monkeypatch)
    archives = [sum(command.endswith(".tar") for command in call) for call in sent.world.builders.calls if len(call) > 1]
    assert archives == [0, 0] * 3 + [1, 0] + [0, 0]


def test_a_cloud_that_lets_nobody_into_its_builders_refuses_before_anything_is_created(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(FakeCloud):
        open_ssh = None  # type: ignore[assignment]

    with pytest.raises(InvalidError, match=r"recipe small: script and files: \d+ bytes; fake takes 8192 bytes"):
        bake_on(Closed, tmp_path / "closed", recipe, SMALL, monkeypatch)


def test_the_tests_of_a_recipe_that_are_too_large_are_refused_before_anything_is_created(
    tmp_path: Path, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(recipe, tests=(Test(name="large", run="# " + "x" * 9000),))
    with pytest.raises(InvalidError, match=r"recipe small: the script of its tests: .* fake takes scripts of up to 8192 bytes"):
        bake_on(FakeCloud, tmp_path / "large", large, SMALL, monkeypatch)
