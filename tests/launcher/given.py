"""What tests of the launcher begin with: images to launch from, and machines that were launched."""

from __future__ import annotations

from clouds.driver import State
from clouds.home import home
from clouds.ledger import Ledger
from launcher.launch import Launched, LaunchOptions, launch
from tests.fake_cloud import FakeCloud, Image, World

SIZES = {"cpus": "2", "memory-mb": "2048", "disk-gb": "10"}


def put_image(world: World, recipe: str, version: str, *, state: str = "stable", notebook: str = "1") -> str:
    """Put a finished image into a cloud, as a bake would leave it; return its name."""
    name = f"{recipe}-{version}"
    labels = {"project": "bakehouse", "role": "image", "recipe": recipe, "version": version, "state": state, "notebook": notebook}
    world.images[name] = Image({**labels, **SIZES}, {}, 1000.0 + len(world.images), State.READY)
    return name


def launch_one(fake: FakeCloud, name: str = "one", recipe: str = "jupyter") -> Launched:
    """Launch a machine of this name from the newest image."""
    return launch(fake, Ledger(home() / "ledger.sqlite3"), LaunchOptions(recipe=recipe, name=name))
