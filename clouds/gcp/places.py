"""Locations in Google Cloud from the settings: project, zone, region, network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clouds.errors import UsageError
from clouds.gcp import ZONE
from clouds.gcp import region_of as region_of
from clouds.gcp.naming import PREFIX

OWN_NETWORK = PREFIX.rstrip("-")
"""A network without ingress rules: the default one opens port 22 to everybody."""
DEFAULT_ZONE = "us-central1-a"


@dataclass(frozen=True, slots=True)
class Places:
    """Where machines are created. `network` is ours unless the user names one; `source` may reach them (CIDR)."""

    project: str
    zone: str
    network: str
    subnet: str
    source: str
    service_account: str

    @property
    def region(self) -> str:
        """The region of the zone."""
        return region_of(self.zone)

    @property
    def is_own_network(self) -> bool:
        """Whether this is our own network, in which only we create rules."""
        return self.network == OWN_NETWORK


def is_ai_zone(zone: str) -> bool:
    """Return whether a zone is for accelerators only (`us-central1-ai1a`): it needs an allowlist, and lacks ordinary types."""
    return zone.rpartition("-")[2].startswith("ai")


def places(settings: Mapping[str, str]) -> Places:
    """Read the settings. UsageError: the project is missing, or the zone is not valid."""
    project = settings.get("project", "")
    if not project:
        raise UsageError(
            "no project is set for gcp",
            next_step="Set GOOGLE_CLOUD_PROJECT, or project in the [gcp] table of the settings file (docs/clouds.md).",
        )
    region = settings.get("region", "")
    zone = settings.get("zone") or (f"{region}-b" if region else DEFAULT_ZONE)  # us-east1 and europe-west1 have no zone -a
    if not re.fullmatch(ZONE, zone, re.ASCII):
        raise UsageError(
            f"{zone!r} is not a zone of Google Cloud", next_step="Write it as us-central1-a; see: gcloud compute zones list"
        )
    if region and settings.get("zone") and region_of(zone) != region:
        raise UsageError(
            f"zone {zone!r} is not in region {region!r}, but both are set in the same place", next_step="Remove one of the two."
        )
    return Places(
        project=project,
        zone=zone,
        network=settings.get("network") or OWN_NETWORK,
        subnet=settings.get("subnet", ""),
        source=settings.get("source", ""),
        service_account=settings.get("service_account", ""),
    )
