"""Google Cloud: Compute Engine, by google-cloud-compute.

No real account has been used to test it; docs/clouds.md says what stands in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.settings import Setting, address_range, number, shaped

if TYPE_CHECKING:
    from clouds.gcp.driver import GoogleCloud

# The shapes are those of the path parameters in the discovery document of compute v1, and of RFC 1035 for names.
_PROJECT = r"(?:(?:[-a-z0-9]{1,63}\.)*(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?):)?(?:[0-9]{1,19}|[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
_NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_REGION = r"[a-z]+-[a-z]+[0-9]+"
ZONE = rf"{_REGION}-(?:ai[0-9]+)?[a-z]"
"""A standard zone, or an AI zone: us-central1-ai1a is in the region us-central1 (docs.cloud.google.com/storage/docs/ai-zones)."""


def region_of(zone: str) -> str:
    """Return the region that a zone is in: `us-central1` of `us-central1-a`."""
    return zone.rpartition("-")[0]


def _check_endpoint(value: str) -> None:
    port = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::([0-9]{1,5}))?", value, re.ASCII)
    if not port or not 0 < int(port[1] or 80) < 65536:
        loopback = "plain http on this computer's loopback address"
        raise ValueError(f"is not {loopback} (write http://127.0.0.1:PORT, or leave it out for Google's own service)")


SETTINGS = {
    "project": Setting(
        "the project that pays",
        ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"),
        check=shaped(_PROJECT, "is not the id of a project (write its id, such as my-project-123, not its name)"),
    ),
    "zone": Setting(
        "where machines go first, such as us-central1-a",
        ("CLOUDSDK_COMPUTE_ZONE",),
        check=shaped(ZONE, "is not a zone of Google Cloud (write one such as us-central1-a)"),
        contradicts={"region": lambda zone, region: region_of(zone) != region},
    ),
    "region": Setting(
        "the region, where no zone is named",
        ("CLOUDSDK_COMPUTE_REGION",),
        check=shaped(_REGION, "is not a region of Google Cloud (write one such as us-central1)"),
    ),
    "network": Setting(
        "the network to be in (default: one of Bakehouse's own, into which nobody is let)",
        check=shaped(_NAME, "is not the name of a network (write its name, such as default)"),
    ),
    "subnet": Setting(
        "the subnetwork, where the network wants one named",
        check=shaped(_NAME, "is not the name of a subnetwork (write its name, such as default)"),
    ),
    "source": Setting(
        "the address or range that may reach machines, as 203.0.113.7 (default: this computer's)", check=address_range
    ),
    "service_account": Setting(
        "the service account that machines act as (default: none)",
        check=shaped(r"default|[^@\s]+@[^@\s]+", "is not a service account (write its e-mail address)"),
    ),
    "slowness": Setting(
        "what all deadlines are multiplied by, for a cloud that is slower than Google's", default="1", check=number(0.1, 1000)
    ),
    "endpoint": Setting(
        "another server in place of Google's, on this computer",
        ("BAKEHOUSE_GCE_ENDPOINT",),
        check=_check_endpoint,
    ),
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
