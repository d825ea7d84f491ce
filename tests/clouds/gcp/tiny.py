"""What tests of the driver bake and launch: the smallest recipe, on machines behind a test server that only follow a script."""

from __future__ import annotations

from pathlib import Path

from bakery.bake import Baked, bake
from bakery.order import BakeOptions
from bakery.recipe import Builder, Recipe, Step, Test
from clouds.driver import Endpoint
from clouds.gcp.driver import GoogleCloud
from clouds.ledger import Ledger
from launcher.launch import Launched, LaunchOptions, launch
from tests import fake_services
from tests.fake_cloud import FakeDisk


class Cloud(GoogleCloud):
    """The driver; SSH answers although the machines are scripted, and their disks can be read, and hold nothing."""

    def address(self, machine: str, port: int) -> Endpoint:
        super().address(machine, port)
        return fake_services.ssh()

    def files(self, image: str, scratch: Path) -> FakeDisk:
        return FakeDisk({})


def bake_tiny(cloud: Cloud, home: Path) -> Baked:
    steps, tests = (Step(name="first", run="true"),), (Test(name="works", run="true"),)
    recipe = Recipe(name="tiny", folder=home, builder=Builder(silence_min=0.5), steps=steps, tests=tests)
    return bake(cloud, recipe, BakeOptions(), home=home)


def launch_tiny(cloud: Cloud, home: Path) -> Launched:
    return launch(cloud, Ledger(home / "ledger.sqlite3"), LaunchOptions(recipe="tiny", name="mine"))
