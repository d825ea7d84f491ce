"""Set-up for the launcher's tests: images to launch from, and launched machines."""

from __future__ import annotations

import time

from clouds.driver import BootSpec, State
from clouds.home import home
from clouds.ledger import Ledger
from launcher.launch import Launched, LaunchOptions, launch
from tests.fake_cloud import FakeCloud
from tests.fake_world import Image, World

SIZES = {"cpus": "2", "memory-mb": "2048", "disk-gb": "10"}


def put_image(world: World, recipe: str, version: str, *, state: str = "stable", notebook: str = "1", days: float = 1) -> str:
    """Put a finished image into a cloud, as a bake did so many days ago; return its name."""
    name = f"{recipe}-{version}"
    labels = {"project": "bakehouse", "role": "image", "recipe": recipe, "version": version, "state": state, "notebook": notebook}
    world.images[name] = Image({**labels, **SIZES}, {}, time.time() - days * 86400 + len(world.images), State.READY)
    return name


def put_memory(world: World, image: str) -> None:
    """Give an image saved memory, as a bake does on a cloud that supports it."""
    shape = {"cpus": int(SIZES["cpus"]), "memory_mb": int(SIZES["memory-mb"]), "disk_gb": int(SIZES["disk-gb"])}
    world.images[image].memory_of = BootSpec(name="test", token="t", source=image, labels={}, deadline_s=0, freezes=True, **shape)


def launch_one(fake: FakeCloud, name: str = "one", recipe: str = "jupyter") -> Launched:
    """Launch a machine of this name from the newest image."""
    return launch(fake, Ledger(home() / "ledger.sqlite3"), LaunchOptions(recipe=recipe, name=name))
