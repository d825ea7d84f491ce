"""Where in Google Cloud: project, zone, region, network, from the settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from clouds.errors import UsageError
from clouds.gcp import ZONE
from clouds.gcp import region_of as region_of
from clouds.gcp.naming import PREFIX

OWN_NETWORK = PREFIX.rstrip("-")
"""A network of our own that lets nobody in: the default one opens port 22 to the world."""
DEFAULT_ZONE = "us-central1-a"


@dataclass(frozen=True, slots=True)
class Places:
    """Where machines go. `network` is ours unless the user names one; `source` is the address that may reach them (CIDR)."""

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
        """Whether nobody but us makes rules there."""
        return self.network == OWN_NETWORK


def is_ai_zone(zone: str) -> bool:
    """Say whether a zone is for accelerators alone: `us-central1-ai1a`. It takes an allowlist, and lacks ordinary machine types."""
    return zone.rpartition("-")[2].startswith("ai")


def places(settings: Mapping[str, str]) -> Places:
    """Read the settings. Raises UsageError for a project that is missing or a zone that is none."""
    project = settings.get("project", "")
    if not project:
        raise UsageError(
            "gcp: no project is set",
            next_step="Set GOOGLE_CLOUD_PROJECT, or project in the [gcp] table of the settings file (docs/clouds.md).",
        )
    region = settings.get("region", "")
    zone = settings.get("zone") or (f"{region}-b" if region else DEFAULT_ZONE)  # us-east1 and europe-west1 have no zone -a
    if not re.fullmatch(ZONE, zone, re.ASCII):
        raise UsageError(
            f"zone {zone!r}: not a zone of Google Cloud", next_step="Write it as us-central1-a; see: gcloud compute zones list"
        )
    if region and settings.get("zone") and region_of(zone) != region:
        raise UsageError(
            f"zone {zone} is not in region {region}, and both are set in the same place", next_step="Leave one of the two out."
        )
    return Places(
        project=project,
        zone=zone,
        network=settings.get("network") or OWN_NETWORK,
        subnet=settings.get("subnet", ""),
        source=settings.get("source", ""),
        service_account=settings.get("service_account", ""),
    )
