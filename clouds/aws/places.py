"""Where in AWS: region, zone, subnet, from the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from clouds.aws import SETTINGS, region_of
from clouds.errors import UsageError


@dataclass(frozen=True, slots=True)
class Places:
    """Where machines go. `region` is "" where the AWS configuration names it; `source` is the address that may reach them (CIDR).

    `owners` are the accounts whose images are trusted, by distribution.
    """

    region: str = ""
    zone: str = ""
    subnet: str = ""
    source: str = ""
    instance_profile: str = ""
    scheduler_role: str = ""
    owners: Mapping[str, str] = field(default_factory=dict)


def places(settings: Mapping[str, str]) -> Places:
    """Read the settings. UsageError: a zone is in another region."""
    region, zone = settings.get("region", ""), settings.get("zone", "")
    if region and zone and region_of(zone) != region:
        raise UsageError(
            f"zone {zone} is not in region {region}, and both are set in the same place", next_step="Leave one of the two out."
        )
    return Places(
        region=region or region_of(zone),
        zone=zone,
        subnet=settings.get("subnet", ""),
        source=settings.get("source", ""),
        instance_profile=settings.get("instance_profile", ""),
        scheduler_role=settings.get("scheduler_role", ""),
        owners={name: settings.get(f"{name}_owner") or SETTINGS[f"{name}_owner"].default for name in ("debian", "ubuntu")},
    )
