"""Launch defaults of a recipe: in the labels of its images, below the flags of the user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from clouds.driver import End, Wishes
from clouds.errors import UsageError
from launcher.defaults import filled, flags, from_labels, to_labels
from launcher.launch import LaunchOptions
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import put_image

ALL: Mapping[str, float] = {"https": True, "port": 9999, "spot": True, "disk_gb": 200, "lifetime_h": 0.5}


@pytest.fixture
def told() -> list[str]:
    return []


def test_labels_hold_the_defaults_in_what_every_cloud_allows() -> None:
    labels = to_labels(ALL)
    assert labels == {
        "launch-https": "1",
        "launch-port": "9999",
        "launch-spot": "1",
        "launch-disk-gb": "200",
        "launch-lifetime-h": "0_5",
    }
    assert from_labels(labels) == ALL
    assert flags(labels) == "--https --port 9999 --spot --disk-gb 200 --lifetime-h 0.5"
    assert flags({}) == ""


def test_damaged_labels_are_left_out() -> None:
    assert from_labels({"launch-lifetime-h": "forever", "launch-port": "", "launch-disk-gb": "-1", "launch-spot": "1"}) == {
        "spot": 1
    }


def test_defaults_apply_without_flags(remote: RemoteCloud, told: list[str]) -> None:
    options = filled(remote, LaunchOptions(), {**to_labels(ALL), "disk-gb": "10"}, told.append)
    assert (options.disk_gb, options.lifetime_h, options.wishes) == (200, 0.5, Wishes(spot=True, https_port=9999))
    assert told == []


def test_without_a_port_https_is_on_its_usual_one(remote: RemoteCloud, told: list[str]) -> None:
    assert filled(remote, LaunchOptions(), to_labels({"https": True}), told.append).wishes.https_port == 443


def test_the_default_port_alone_opens_nothing(remote: RemoteCloud, told: list[str]) -> None:
    labels = to_labels({"port": 9999})
    assert filled(remote, LaunchOptions(), labels, told.append).wishes.https_port == 0
    typed = LaunchOptions(wishes=Wishes(https_port=443), given=frozenset({"https"}))
    assert filled(remote, typed, labels, told.append).wishes.https_port == 9999


def test_a_port_without_https_needs_the_default(remote: RemoteCloud, told: list[str]) -> None:
    typed = LaunchOptions(port=8443, given=frozenset({"port"}))
    assert filled(remote, typed, to_labels(ALL), told.append).wishes.https_port == 8443
    assert filled(remote, typed, to_labels({"https": True}), told.append).wishes.https_port == 8443
    with pytest.raises(UsageError, match=r"--port: applies only to --https \(add --https, or leave it out\)"):
        filled(remote, typed, to_labels({"port": 9999}), told.append)


@pytest.mark.parametrize(
    ("flag", "wishes"),
    [
        ("--on-preempt", Wishes(on_preempt=End.DELETE)),
        ("--on-preempt", Wishes(on_preempt=End.STOP)),
        ("--max-price", Wishes(max_price_usd=0.05)),
    ],
)
def test_an_option_of_spot_machines_needs_the_flag_or_the_default(
    remote: RemoteCloud, told: list[str], flag: str, wishes: Wishes
) -> None:
    assert filled(remote, LaunchOptions(wishes=wishes), to_labels({"spot": True}), told.append).wishes == replace(wishes, spot=True)
    with pytest.raises(UsageError, match=rf"{flag}: applies only to spot machines \(add --spot, or leave it out\)"):
        filled(remote, LaunchOptions(wishes=wishes), {}, told.append)


def test_what_a_cloud_does_not_support_is_left_out_and_reported(fake: FakeCloud, told: list[str]) -> None:
    options = filled(fake, LaunchOptions(), to_labels(ALL), told.append)
    assert (options.disk_gb, options.lifetime_h, options.wishes) == (200, 0.5, Wishes())
    assert told == [
        "the recipe's default --https is left out: not supported by cloud 'fake'",
        "the recipe's default --spot is left out: not supported by cloud 'fake'",
    ]


def test_a_default_disk_is_never_smaller_than_the_image(fake: FakeCloud, told: list[str]) -> None:
    assert filled(fake, LaunchOptions(), {"launch-disk-gb": "10", "disk-gb": "12"}, told.append).disk_gb == 12


@pytest.mark.parametrize(
    ("typed", "wished", "disk_gb"),
    [
        ({}, Wishes(spot=True, https_port=9999), 200),
        ({"no_spot": True, "no_https": True}, Wishes(), 200),
        ({"https": True, "port": "8443", "disk_gb": "50"}, Wishes(spot=True, https_port=8443), 50),
        ({"port": "8443"}, Wishes(spot=True, https_port=8443), 200),
    ],
    ids=["defaults", "none of them", "others", "another port"],
)
def test_flags_override_the_defaults(
    remote: RemoteCloud,
    far_ssh: Path,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    typed: dict[str, str | bool],
    wished: Wishes,
    disk_gb: int,
) -> None:
    monkeypatch.setattr("clouds.connect", lambda _name, _given=None: remote)
    world.images[put_image(world, "jupyter", "1.4.0-7")].labels |= to_labels(ALL)
    code, _, stderr = run("launch", name="one", **typed)
    assert code == 0, stderr
    (machine,) = world.machines.values()
    assert (machine.spec.wishes, machine.spec.disk_gb) == (wished, disk_gb)
    assert machine.spec.deadline_s < 3600 * 1.0


@pytest.mark.parametrize("typed", ["stop", "delete"])
def test_on_preempt_needs_a_spot_machine(
    remote: RemoteCloud, far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setattr("clouds.connect", lambda _name, _given=None: remote)
    image = world.images[put_image(world, "jupyter", "1.4.0-7")]
    refused = "error: --on-preempt: applies only to spot machines (add --spot, or leave it out)\n"
    assert (run("launch", on_preempt=typed), world.machines) == ((2, "", refused), {})
    image.labels |= to_labels({"spot": True})
    assert run("launch", on_preempt=typed)[0] == 0
    (machine,) = world.machines.values()
    assert machine.spec.wishes.on_preempt == typed


@pytest.mark.parametrize(("typed", "expires"), [("0", True), ("3", False)], ids=["never", "later"])
def test_the_lifetime_may_be_set_to_none(
    fake: FakeCloud, world: World, monkeypatch: pytest.MonkeyPatch, typed: str, expires: bool
) -> None:
    monkeypatch.setattr("clouds.connect", lambda _name, _given=None: fake)
    world.images[put_image(world, "jupyter", "1.4.0-7")].labels |= to_labels(ALL)
    assert run("launch", name="one", lifetime_h=typed)[0] == 0
    (machine,) = world.machines.values()
    assert (machine.labels["expires"] == "0") is expires
