"""The next step after Compute Engine has rejected a value, by the field or resource that its message names.

Messages name the field by its path in the request ("Invalid value for field 'resource.machineType': ...", reason `invalid`), or the
resource by its path ("The resource 'projects/p/zones/z/diskTypes/x' was not found", reason `notFound`). Texts as in
hashicorp/terraform-provider-google#2140 (subnetwork), taskcluster/community-tc-config#75 (machine type),
runmedev/vscode-runme#1510 (zone), docker-archive/infrakit.gcp#1 (image), GoogleCloudPlatform/compute-image-tools#1476 (constraint).
"""

from __future__ import annotations

import re

_ADVICE = (
    (
        r"constraints/compute\.vmExternalIpAccess",
        "Your organization forbids public addresses: use --no-public-ip (for what the network needs then, see docs/clouds.md), "
        "or ask an administrator to exempt this project from the policy.",
    ),
    (r"constraints/[\w.]+", "A policy of your organization forbids this: ask an administrator to exempt this project from it."),
    (
        r"(?:machineTypes/|field '[\w.]*machineType')",
        "Choose a --type that is available in the zone: gcloud compute machine-types list --zones ZONE",
    ),
    (
        r"(?:diskTypes/|field '[\w.\[\]]*diskType'|\[(?:pd|hyperdisk)-[a-z-]+\] features)",
        "Choose a --disk-type that the zone and the machine type support: gcloud compute disk-types list --zones ZONE",
    ),
    (
        r"(?:subnetworks/|field '[\w.\[\]]*subnetwork'|[Ss]ubnetwork should be specified)",
        "Choose a --subnet in the zone's region: gcloud compute networks subnets list",
    ),
    (r"(?:/networks/|field '[\w.\[\]]*network')", "Choose a --network in this project: gcloud compute networks list"),
    (
        r"(?:field 'zone'|projects/[^/']+/zones/[^/']+' was not found|Unknown zone)",
        "Choose a --zone or --region that exists: gcloud compute zones list",
    ),
    (
        r"(?:field 'region'|projects/[^/']+/regions/[^/']+' was not found|Unknown region)",
        "Choose a --region: gcloud compute regions list",
    ),
)
"""Patterns with the next step; the first match counts, so that the zone in the path of a disk type is not blamed."""


def advice(message: str) -> str:
    """Return the next step after a rejection, by the resource that its message names, or ""."""
    return next((next_step for pattern, next_step in _ADVICE if re.search(pattern, message)), "")
