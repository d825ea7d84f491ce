"""Google Cloud: Compute Engine, through google-cloud-compute.

Not tested with a real account; docs/clouds.md describes the stand-in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from clouds.settings import Setting, address_range, number, shaped

if TYPE_CHECKING:
    from clouds.gcp.driver import GoogleCloud

# Patterns: path parameters in the discovery document of compute v1; RFC 1035 for names.
_PROJECT = r"(?:(?:[-a-z0-9]{1,63}\.)*(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?):)?(?:[0-9]{1,19}|[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
_NAME = r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
_REGION = r"[a-z]+-[a-z]+[0-9]+"
ZONE = rf"{_REGION}-(?:ai[0-9]+)?[a-z]"
"""A standard zone, or an AI zone: us-central1-ai1a is in the region us-central1 (docs.cloud.google.com/storage/docs/ai-zones)."""


def region_of(zone: str) -> str:
    """Return the region of a zone: `us-central1` for `us-central1-a`."""
    return zone.rpartition("-")[0]


def _check_endpoint(value: str) -> None:
    port = re.fullmatch(r"http://(?:127\.0\.0\.1|localhost|\[::1\])(?::([0-9]{1,5}))?", value, re.ASCII)
    if not port or not 0 < int(port[1] or 80) < 65536:
        raise ValueError("is not a plain http URL on loopback (write http://127.0.0.1:PORT, or omit it for Google's service)")


SETTINGS_PAGE = "docs/clouds.md, under Google Cloud, Set up"
"""Where the settings are explained."""
SETTINGS = {
    "project": Setting(
        "project id (billed)",
        ("GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"),
        check=shaped(_PROJECT, "is not a project id (write its id, such as my-project-123, not its name)"),
    ),
    "zone": Setting(
        "preferred zone, such as us-central1-a",
        ("CLOUDSDK_COMPUTE_ZONE",),
        check=shaped(ZONE, "is not a zone of Google Cloud (write one such as us-central1-a)"),
        contradicts={"region": lambda zone, region: region_of(zone) != region},
    ),
    "region": Setting(
        "region, if no zone is set",
        ("CLOUDSDK_COMPUTE_REGION",),
        check=shaped(_REGION, "is not a region of Google Cloud (write one such as us-central1)"),
    ),
    "network": Setting(
        "VPC network (default: Bakehouse's own, a network without ingress rules)",
        check=shaped(_NAME, "is not the name of a network (write its name, such as default)"),
    ),
    "subnet": Setting(
        "subnetwork, if the network requires one",
        check=shaped(_NAME, "is not the name of a subnetwork (write its name, such as default)"),
    ),
    "source": Setting(
        "address or range that may reach machines, such as 203.0.113.7 (default: this computer's)", check=address_range
    ),
    "service_account": Setting(
        "service account of machines (default: none)",
        check=shaped(r"default|[^@\s]+@[^@\s]+", "is not a service account (write its e-mail address)"),
    ),
    "slowness": Setting(
        "factor for all deadlines, for a server that is slower than Google's", default="1", check=number(0.1, 1000)
    ),
    "endpoint": Setting(
        "URL of a server on this computer to use instead of Google's",
        ("BAKEHOUSE_GCE_ENDPOINT",),
        check=_check_endpoint,
    ),
}


def connect(home: Path, settings: Mapping[str, str]) -> GoogleCloud:
    """Return the driver for these settings, without sending a request. UsageError: a setting is missing or wrong."""
    from clouds.gcp.client import Client
    from clouds.gcp.driver import GoogleCloud
    from clouds.gcp.images import Images
    from clouds.gcp.places import places

    where = places(settings)
    client = Client(where.project, settings.get("endpoint", ""))
    images = Images(client, where.region, home / "gcp" / f"bases-{where.project}.json")
    return GoogleCloud(client, where, images, slowness=float(settings.get("slowness") or 1))
