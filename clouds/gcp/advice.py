"""What to do next when Compute Engine refuses a value: by the field or the kind of resource that its message names.

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
        "Your organization forbids public addresses: give --no-public-ip (docs/clouds.md says what the network needs then), "
        "or let an administrator except this project from the policy.",
    ),
    (r"constraints/[\w.]+", "A policy of your organization forbids this: ask an administrator to except this project from it."),
    (
        r"(?:machineTypes/|field '[\w.]*machineType')",
        "Choose a --type that the zone offers: gcloud compute machine-types list --zones ZONE",
    ),
    (
        r"(?:diskTypes/|field '[\w.\[\]]*diskType'|\[(?:pd|hyperdisk)-[a-z-]+\] features)",
        "Choose a --disk-type that the zone offers and the machine type takes: gcloud compute disk-types list --zones ZONE",
    ),
    (
        r"(?:subnetworks/|field '[\w.\[\]]*subnetwork'|[Ss]ubnetwork should be specified)",
        "Choose a --subnet of the zone's region: gcloud compute networks subnets list",
    ),
    (r"(?:/networks/|field '[\w.\[\]]*network')", "Choose a --network of this project: gcloud compute networks list"),
    (
        r"(?:field 'zone'|projects/[^/']+/zones/[^/']+' was not found|Unknown zone)",
        "Choose a --zone from: gcloud compute zones list",
    ),
    (
        r"(?:field 'region'|projects/[^/']+/regions/[^/']+' was not found|Unknown region)",
        "Choose from: gcloud compute regions list",
    ),
)
"""A pattern and what to do; the first that fits holds, so that a zone in the path of a disk type is not taken for the fault."""


def advice(message: str) -> str:
    """Return what to do about a refusal, by the resource that its message names; "" when it names none of these."""
    return next((next_step for pattern, next_step in _ADVICE if re.search(pattern, message)), "")
