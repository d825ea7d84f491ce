"""What errors say about the region of a cloud (`clouds.capabilities.HasRegions`) in which something was not found."""

from __future__ import annotations

from clouds.capabilities import HasRegions
from clouds.driver import Cloud


def where(cloud: Cloud) -> str:
    """Return the name of a cloud, with the region that it covers: `aws in eu-west-1`."""
    return f"{cloud.name} in {cloud.region()}" if isinstance(cloud, HasRegions) else cloud.name


def other_regions(cloud: Cloud, verb: str = "") -> str:
    """Return a further line of a next step: how to look in other regions, with the verb that lists them; "" without regions."""
    if not isinstance(cloud, HasRegions):
        return ""
    line = "\nIf it is in another region, add --region REGION."
    return f"{line} To look in all of them: ./inv {verb} --region all" if verb else line
