"""Machines and images in a cloud: the drivers, and what all above them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from clouds.errors import UsageError
from clouds.home import home

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Launcher

DRIVERS = {"local": "clouds.local", "gcp": "clouds.gcp"}
"""The package of each cloud: it has SETTINGS, and connect(home, settings)."""


def connect(name: str | None = None, given: Mapping[str, str] = {}) -> Launcher:
    """Return the driver of a cloud (None: the default one), loading no other cloud's libraries.

    `given` holds settings that were told by flags. Raises UsageError: no such cloud, or a setting is wrong.
    """
    from clouds.settings import load

    name = default() if name is None else name
    _check(name)
    driver: Launcher = import_module(DRIVERS[name]).connect(home(), load(name, given))
    return driver


def prepare_local(tell: Callable[[str], None]) -> None:
    """Install what the local cloud needs on this computer, as its first use would."""
    import_module(DRIVERS["local"]).prepare(tell)


def default() -> str:
    """Return the cloud to work in: the environment's, else that of the settings file, else the local one."""
    from clouds.settings import chosen_cloud

    return chosen_cloud() or "local"


def configured() -> list[str]:
    """Return the clouds that are in use here: the default one, those that keep something here, those with a setting."""
    from clouds.settings import is_configured

    return [name for name in DRIVERS if name == default() or (home() / name).is_dir() or is_configured(name)]


def _check(name: str) -> None:
    if name not in DRIVERS:
        raise UsageError(f"cloud {name!r}: not known", next_step=f"Choose one of: {', '.join(DRIVERS)}.")
