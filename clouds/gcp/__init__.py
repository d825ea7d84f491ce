"""Google Cloud: Compute Engine, by google-cloud-compute.

No real account has been used to test it; docs/clouds.md says what stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.settings import Setting

if TYPE_CHECKING:
    from clouds.gcp.driver import GoogleCloud

SETTINGS = {
    "project": Setting("the project that pays", ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT")),
    "zone": Setting("where machines go first, such as us-central1-a", ("CLOUDSDK_COMPUTE_ZONE",)),
    "region": Setting("the region, where no zone is named", ("CLOUDSDK_COMPUTE_REGION",)),
    "network": Setting("the network to be in (default: one of Bakehouse's own, into which nobody is let)"),
    "subnet": Setting("the subnetwork, where the network wants one named"),
    "source": Setting("the address or range that may reach machines, as 203.0.113.7 (default: this computer's)"),
    "service_account": Setting("the service account that machines act as (default: none)"),
    "slowness": Setting("what all deadlines are multiplied by, for a cloud that is slower than Google's", default="1"),
    "endpoint": Setting("another server in place of Google's, on this computer", ("BAKEHOUSE_GCE_ENDPOINT",)),
}


def connect(home: Path, settings: Mapping[str, str]) -> GoogleCloud:
    """Return Compute Engine as the settings describe it; nothing is asked yet. UsageError: a setting is missing or wrong."""
    from clouds.gcp.client import Client
    from clouds.gcp.driver import GoogleCloud
    from clouds.gcp.images import Images
    from clouds.gcp.places import places

    where = places(settings)
    client = Client(where.project, settings.get("endpoint", ""))
    images = Images(client, where.region, home / "gcp" / f"bases-{where.project}.json")
    return GoogleCloud(client, where, images, slowness=float(settings.get("slowness") or 1))
