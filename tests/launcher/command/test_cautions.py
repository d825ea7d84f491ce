"""What a command says before it starts about `--zone` and `--source`."""

from __future__ import annotations

from pathlib import Path

import pytest

import clouds
from clouds import settings
from clouds.errors import UsageError
from launcher.command.cautions import cautions
from tests.cli.verbs import run
from tests.fake_cloud import FakeCloud
from tests.fake_remote import RemoteCloud
from tests.fake_world import World
from tests.launcher.given import launch_one, put_image


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for cloud in ("gcp", "aws"):
        for name in (name for setting in settings._declared(cloud).values() for name in setting.environment):
            monkeypatch.delenv(name, raising=False)


def write(text: str) -> None:
    path = settings.config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def said(**values: str | None) -> list[str]:
    typed = {"cloud": None, "region": None, "zone": None, **values}
    given = {key: value for key, value in typed.items() if value and key != "cloud"}
    return cautions(typed, clouds.connect(typed["cloud"], given))


FAR = "--zone europe-west1-b: this command uses the region europe-west1, instead of us-east1 from your settings"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ('region = "us-east1"', [FAR]),
        ('zone = "us-east1-b"', [FAR]),
        ('region = "europe-west1"', []),
        ('zone = "europe-west1-c"', []),
        ("", []),
    ],
)
def test_zone_in_another_region_than_that_of_the_settings_is_reported(lines: str, expected: list[str]) -> None:
    write(f'[gcp]\nproject = "mine"\n{lines}\n')
    assert said(cloud="gcp", zone="europe-west1-b") == expected
    assert said(cloud="gcp") == []


def test_region_that_is_given_needs_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    write('[gcp]\nproject = "mine"\nregion = "us-east1"\n')
    assert said(cloud="gcp", region="europe-west1") == []
    monkeypatch.setenv("CLOUDSDK_COMPUTE_REGION", "us-east1")
    assert said(cloud="gcp", zone="europe-west1-b") == [FAR]


@pytest.mark.parametrize("verb", ["launch", "bake"])
def test_region_of_a_cloud_with_regions_is_compared_too(
    fake: FakeCloud, world: World, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Such as AWS, where a profile may name it; without a region at all there is nothing to compare."""

    class Regional(FakeCloud):
        def __init__(self, place: str) -> None:
            super().__init__(world)
            self.place = place

        def region(self) -> str:
            if not self.place:
                raise UsageError("no region is set")
            return self.place

        def regions(self) -> list[str]:
            return [self.place]

        def in_region(self, region: str) -> Regional:
            return Regional(region)

    usual = ["near-1", "far-1", ""]
    monkeypatch.setattr(clouds, "configured", list)
    monkeypatch.setattr(clouds, "connect", lambda _=None, given=None: Regional("far-1" if given else usual[0]))
    line = "--zone far-1a: this command uses the region far-1, instead of near-1 from your settings\n"
    found = []
    while usual:
        found.append(line in run(verb, recipe="minimal", zone="far-1a")[2])
        usual.pop(0)
    assert found == [True, False, False]


@pytest.mark.parametrize(
    ("source", "who"),
    [
        ("0.0.0.0/0", "the whole internet"),
        ("::/0", "the whole internet"),
        ("128.0.0.0/1", "a large part of the internet"),
        ("10.0.0.0/8", ""),
        ("203.0.113.7", ""),
        ("nonsense", ""),
    ],
)
def test_source_that_admits_most_of_the_internet_is_reported_with_how_to_narrow_it(source: str, who: str) -> None:
    expected = (
        f"source {source}: {who} can reach the open ports of the machine (SSH, and the notebook with --https); to admit "
        "fewer addresses: ./inv start NAME --source 203.0.113.7"
    )
    values = {"cloud": None, "source": source}
    assert cautions(values, clouds.connect("local")) == ([expected] if who else [])


def test_source_of_the_settings_is_reported_too() -> None:
    write('[gcp]\nproject = "mine"\nsource = "0.0.0.0/0"\n')
    assert len(cautions({"cloud": "gcp", "source": None}, clouds.connect("gcp"))) == 1
    assert cautions({"cloud": "gcp", "source": "203.0.113.7"}, clouds.connect("gcp")) == []
    assert cautions({"cloud": "gcp"}, clouds.connect("gcp")) == []  # a verb that admits nobody


class Admitting(RemoteCloud):
    """A remote cloud with a firewall."""

    def admit(self, machine: str, source: str = "") -> str:
        return f"admits {source}"


def test_start_reports_it_and_starts(far_ssh: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Admitting(world)
    monkeypatch.setattr(clouds, "connect", lambda _name=None, _given=None: cloud)
    put_image(world, "jupyter", "1.4.0-7")
    launch_one(cloud, "one")
    run("stop", name="one")
    code, _, stderr = run("start", name="one", source="0.0.0.0/0")
    assert code == 0, stderr
    assert stderr.startswith("source 0.0.0.0/0: the whole internet can reach")
    assert "admits 0.0.0.0/0\n" in stderr
