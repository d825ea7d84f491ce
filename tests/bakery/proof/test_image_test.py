"""The tests of a recipe on a machine launched from its image: what a bake reports of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bakery.bake import bake
from bakery.events import Event, StepEnded
from bakery.order import BakeOptions
from bakery.recipe.recipe import Notebook, Step, load
from launcher.images import images
from tests import fake_guest
from tests.fake_cloud import FakeCloud


def test_an_image_says_whether_its_recipe_asks_for_a_gpu(fake: FakeCloud, tmp_path: Path) -> None:
    bake(fake, replace(load("minimal"), gpu=True), BakeOptions(), home=tmp_path)
    assert [image.labels["gpu"] for image in images(fake)] == ["1"]


def test_an_image_says_whether_it_has_rmate(fake: FakeCloud, tmp_path: Path) -> None:
    for notebook in (Notebook(rsub=True), Notebook()):
        bake(fake, replace(load("minimal"), steps=(Step(name="nb", notebook=notebook),)), BakeOptions(), home=tmp_path)
    assert [image.labels.get("rsub") for image in sorted(images(fake), key=lambda image: image.version)] == ["1", None]


def test_a_bake_reports_a_skipped_test_as_such_and_publishes_the_image(fake: FakeCloud, tmp_path: Path) -> None:
    events: list[Event] = []
    fake.guest("test-*", fake_guest.skips_test("user"))
    bake(fake, load("minimal"), BakeOptions(), home=tmp_path, on_event=events.append)
    ended = {event.name: event.skipped for event in events if isinstance(event, StepEnded)}
    assert (ended["user"], ended["prepare"]) == ("no GPU here", "")
    assert [image.state for image in images(fake)] == ["stable"]
