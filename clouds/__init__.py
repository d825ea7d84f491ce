"""Machines and images in a cloud: the drivers, and the modules that all other packages share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from clouds.accounts import account_of, cloud_of
from clouds.errors import UsageError
from clouds.home import home

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Cloud

DRIVERS = {"local": "clouds.local", "gcp": "clouds.gcp", "aws": "clouds.aws"}
"""The package of each cloud, with its SETTINGS and connect(home, settings)."""


def connect(name: str | None = None, given: Mapping[str, str] = {}) -> Cloud:
    """Return the driver of a cloud or account, such as `gcp.research` (None: the default); load no other cloud's libraries.

    `given` holds the settings from flags. UsageError: no such cloud, or a setting is wrong.
    """
    from clouds.settings import load

    name = default() if name is None else name
    check(name)
    driver: Cloud = import_module(DRIVERS[cloud_of(name)]).connect(home(), load(name, given))
    if account_of(name):
        driver.name = name
    return driver


def setting(name: str | None, key: str) -> str:
    """Return a setting of a cloud without flags; "" if it is not set, or the cloud has no such setting. UsageError as above."""
    from clouds.settings import load

    name = default() if name is None else name
    check(name)
    return load(name, {}).get(key, "")


def region_of(name: str | None, zone: str = "") -> str:
    """Return the region of a zone, by default of the zone or region in the settings of a cloud; "" if they name none."""
    zone = zone or setting(name, "zone")
    package = import_module(DRIVERS[cloud_of(default() if name is None else name)])
    return package.region_of(zone) if zone and hasattr(package, "region_of") else setting(name, "region")


def prepare_local(tell: Callable[[str], None]) -> None:
    """Install the packages that the local cloud needs on this computer, as its first use does."""
    import_module(DRIVERS["local"]).prepare(tell)


def default() -> str:
    """Return the default cloud: from the environment, else from the settings file, else local."""
    from clouds.settings import chosen_cloud

    return chosen_cloud() or "local"


def configured() -> list[str]:
    """Return the clouds and accounts in use: the default one, those with files on this computer, those with a setting.

    A cloud with named accounts is included itself only if it has settings of its own: it may have no other account.
    """
    from clouds.settings import accounts

    return [name for cloud in DRIVERS for name in ([cloud] if _is_used(cloud) else []) + accounts(cloud)]


def _is_used(cloud: str) -> bool:
    from clouds.settings import accounts, is_configured

    return cloud == default() or is_configured(cloud) or ((home() / cloud).is_dir() and not accounts(cloud))


def check(name: str) -> None:
    """Raise UsageError if there is no such cloud, with the one that may be meant."""
    if cloud_of(name) not in DRIVERS:
        from clouds.near import near  # with difflib, which `./inv --list` need not load

        meant = [found + name[len(cloud_of(name)) :] for found in near(cloud_of(name), DRIVERS)]
        otherwise = f"Choose one of: {', '.join(DRIVERS)}."
        raise UsageError(f"unknown cloud {name!r}", next_step=f"Did you mean {' or '.join(meant)}?" if meant else otherwise)
