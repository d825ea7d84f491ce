"""A rebuild for security updates: it brings them, or notes that the base lacks them, and does not bake again for these."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import clouds
from bakery.bake import bake
from bakery.order import BakeOptions
from bakery.rebuild import rebuild
from bakery.rebuild.jobs import Ended, Job
from bakery.recipe.recipe import load
from clouds import mirrors
from clouds.driver import Base, BaseImage, Tell
from clouds.home import home
from launcher.command.outcome import Outcome
from launcher.command.terminal import Terminal
from launcher.packages import IN_IMAGE
from tests.fake_archive import Archive, deb, serving
from tests.fake_cloud import SEALED, FakeCloud
from tests.fake_world import World


class OneBase(FakeCloud):
    """A cloud that has no newer base."""

    def resolve_base(self, base: Base, *, refresh: bool = False, tell: Tell | None = None) -> BaseImage:
        return super().resolve_base(base)


@dataclass
class Place:
    """A cloud, and an archive; `install` decides what bakes find in it and in their base."""

    archive: Archive
    install: Callable[[str], None]

    def rebuild(self) -> dict[str, Any]:
        """Rebuild `minimal`; return the result."""
        terminal = Terminal(None, io.StringIO(), io.StringIO())
        values = {"recipe": ["minimal"], "cloud": ["fake"], "dry_run": False, "json": True, "jobs": 1}
        assert rebuild.rebuild(values, terminal) == 0
        [result] = json.loads(terminal.stdout.getvalue())  # type: ignore[attr-defined]
        return dict(result)


@pytest.fixture
def place(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Give a cloud without images. Bakes run in this process."""
    cloud = OneBase(world)

    def run(jobs: Sequence[Job], **_: object) -> list[Ended]:
        options = BakeOptions(force=True, no_cache=True, refresh=True)  # `minimal` has no step that --refresh repeats
        images = [bake(cloud, load(job.recipe), options, home=home()).image for job in jobs]
        return [Ended(job, Outcome.SUCCEEDED, 1.0, image) for job, image in zip(jobs, images, strict=True)]

    def install(version: str) -> None:
        purl = f"pkg:deb/debian/curl@{version}?arch=amd64&distro=trixie"
        text = json.dumps({"components": [{"name": "curl", "version": version, "purl": purl}]})
        monkeypatch.setitem(SEALED, IN_IMAGE, text.encode())

    monkeypatch.setattr(rebuild, "run", run)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: cloud)
    monkeypatch.setattr(clouds, "setting", lambda _cloud, _key: None)
    with serving() as archive:
        monkeypatch.setattr(mirrors, "host_mirrors", lambda: archive.mirrors)
        yield Place(archive, install)


def open_file() -> Path:
    [path] = (home() / "packages").glob("*.open.json")
    return path


def test_a_published_update_is_baked_once(place: Place) -> None:
    place.archive.publish("debian/trixie", deb("curl", "8.1"))
    place.install("8.1")
    assert place.rebuild()["outcome"] == "baked"
    assert place.rebuild()["outcome"] == "unchanged"
    place.archive.publish("debian/trixie", deb("curl", "8.2"))
    place.install("8.2")
    result = place.rebuild()
    assert (result["outcome"], result["why"]) == ("baked", "security updates: curl 8.1 → 8.2")
    assert [(one["name"], one["old"], one["new"]) for one in result["changes"]] == [("curl", "8.1", "8.2")]
    assert place.rebuild()["outcome"] == "unchanged"


def test_an_update_that_the_base_lacks_is_told_and_not_baked_again(place: Place) -> None:
    place.archive.publish("debian/trixie", deb("curl", "8.2"))
    place.install("8.1")
    lacking = "its base still lacks security updates: curl 8.1 → 8.2"
    assert place.rebuild()["why"] == f"no stable image so far; {lacking}"
    assert place.rebuild()["outcome"] == "unchanged"
    place.archive.publish("debian/trixie", deb("curl", "8.3"))
    assert place.rebuild()["why"] == "security updates: curl 8.1 → 8.3; its base still lacks security updates: curl 8.1 → 8.3"
    assert place.rebuild()["outcome"] == "unchanged"


def test_a_damaged_note_is_no_note(place: Place) -> None:
    place.archive.publish("debian/trixie", deb("curl", "8.2"))
    place.install("8.1")
    place.rebuild()
    open_file().write_text("[")
    assert place.rebuild()["outcome"] == "baked"


def test_nothing_is_noted_if_the_archive_does_not_answer(place: Place) -> None:
    place.install("8.1")
    assert place.rebuild()["why"] == "no stable image so far"
    assert not list((home() / "packages").glob("*.open.json"))
