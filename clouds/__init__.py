"""Machines and images in a cloud: the drivers, and what all above them share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from clouds.errors import UsageError
from clouds.home import home

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Launcher

DEFAULT = "local"
_DRIVERS = {"local": "clouds.local"}


def connect(name: str = DEFAULT) -> Launcher:
    """Return the driver of a cloud, loading no other cloud's libraries. Raises UsageError for an unknown name."""
    if name not in _DRIVERS:
        raise UsageError(f"cloud {name!r}: not known", next_step=f"Choose one of: {', '.join(_DRIVERS)}.")
    driver: Launcher = import_module(_DRIVERS[name]).connect(home())
    return driver
