"""Launch defaults of a recipe: they travel in the labels of its images, and apply where the user has given no flag."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from clouds import names
from clouds.driver import Cloud, Tell
from clouds.errors import UsageError
from launcher.command.machine_options import HTTPS_PORT

if TYPE_CHECKING:
    from launcher.launch import LaunchOptions

KEYS = ("https", "port", "spot", "disk_gb", "lifetime_h")
"""The flags of `launch` for which a recipe may have a default, as keys."""
_GRANTS = {"https": "https_port", "spot": "spot"}
"""The option of a machine, in `Cloud.grants`, that a default needs."""
_NUMBER = re.compile(r"[0-9]+(_[0-9]+)?")


def to_labels(defaults: Mapping[str, float]) -> dict[str, str]:
    """Return defaults as labels of an image. Clouds allow no dot in a value: 0.5 is written 0_5."""
    return {_label(key): f"{value:.10g}".replace(".", "_") for key, value in defaults.items()}


def from_labels(labels: Mapping[str, str], *, besides: Collection[str] = ()) -> dict[str, float]:
    """Return the defaults in the labels of an image, except those of the keys `besides`; damaged ones are left out."""
    texts = {key: labels.get(_label(key), "") for key in KEYS if key not in besides}
    return {key: float(text.replace("_", ".")) for key, text in texts.items() if _NUMBER.fullmatch(text)}


def filled(cloud: Cloud, options: LaunchOptions, labels: Mapping[str, str], tell: Tell) -> LaunchOptions:
    """Return the options of a launch with the defaults of an image; report those that the cloud does not support.

    UsageError: an option of the user needs another one, which is neither given nor a default.
    """
    found = from_labels(labels, besides=options.given)
    for key, option in _GRANTS.items():
        if found.get(key) and option not in cloud.grants:
            del found[key]
            tell(f"the recipe's default --{key} is left out: not supported by cloud {cloud.name!r}")
    https_port = options.wishes.https_port or ((options.port or HTTPS_PORT) if found.get("https") else 0)
    wishes = replace(
        options.wishes,
        spot=options.wishes.spot or bool(found.get("spot")),
        https_port=int(found.get("port", https_port)) if https_port else 0,
    )
    if options.port and not https_port:
        raise UsageError("--port: applies only to --https (add --https, or leave it out)")
    for flag, wished in (("--on-preempt", wishes.on_preempt), ("--max-price", wishes.max_price_usd)):
        if wished and not wishes.spot:
            raise UsageError(f"{flag}: applies only to spot machines (add --spot, or leave it out)")
    least_gb = names.number(labels, "disk-gb")
    return replace(
        options,
        disk_gb=max(int(found["disk_gb"]), least_gb) if "disk_gb" in found else options.disk_gb,
        lifetime_h=found.get("lifetime_h", options.lifetime_h),
        wishes=wishes,
    )


def flags(labels: Mapping[str, str]) -> str:
    """Return the defaults in the labels of an image as the flags that they stand for; "" for none."""
    return " ".join(_flag(key, value) for key, value in from_labels(labels).items())


def _flag(key: str, value: float) -> str:
    flag = f"--{key.replace('_', '-')}"
    return flag if key in _GRANTS else f"{flag} {value:.10g}"


def _label(key: str) -> str:
    return f"launch-{key.replace('_', '-')}"
