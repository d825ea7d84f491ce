"""Lines about options that have an effect which a user may not expect, printed before a command starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import clouds
from clouds.errors import UsageError
from launcher.command.flags import Values

if TYPE_CHECKING:
    from clouds.driver import Cloud


def cautions(values: Values, cloud: Cloud) -> list[str]:
    """Return a line if `--zone` changes the region of the settings, and one if most of the internet may reach the machine."""
    with suppress(UsageError):  # wrong settings have been reported when the cloud was connected
        return [*_other_region(values, cloud), *_open_to_most(values)]
    return []


def _other_region(values: Values, cloud: Cloud) -> Iterator[str]:
    zone = values.get("zone")
    if not zone or values.get("region"):
        return
    before, now = _regions(values["cloud"], cloud, zone)
    if before and before != now:
        yield f"--zone {zone}: this command uses the region {now}, instead of {before} from your settings"


def _regions(name: str | None, cloud: Cloud, zone: str) -> tuple[str, str]:
    """Return the region of the settings, "" if they name none, and that of a zone."""
    from clouds.capabilities import HasRegions

    if not isinstance(cloud, HasRegions):
        return clouds.region_of(name), clouds.region_of(name, zone)
    usual = clouds.connect(name)
    return usual.region() if isinstance(usual, HasRegions) else "", cloud.region()


def _open_to_most(values: Values) -> Iterator[str]:
    """Yield a line if a source admits more than a 256th of all addresses."""
    import ipaddress  # costs some ms, which `./inv --list` need not spend

    source = (values["source"] or clouds.setting(values["cloud"], "source")) if "source" in values else ""
    with suppress(ValueError):  # the cloud refuses it
        if source and (length := ipaddress.ip_network(source, strict=False).prefixlen) < 8:
            who = "a large part of the internet" if length else "the whole internet"
            yield (
                f"source {source}: {who} can reach the open ports of the machine (SSH, and the notebook with --https); to admit "
                "fewer addresses: ./inv start NAME --source 203.0.113.7"
            )
