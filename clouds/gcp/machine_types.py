"""Machine types of Compute Engine by processors and memory (cloud.google.com/compute/docs/general-purpose-machines)."""

from __future__ import annotations

from clouds.errors import CloudError, InvalidError
from clouds.gcp.client import Client
from clouds.gcp.scopes import everywhere
from clouds.incomplete import partly
from clouds.near import did_you_mean

_TYPES = (
    ("e2-small", 2, 2048),
    ("e2-medium", 2, 4096),
    ("e2-standard-2", 2, 8192),
    ("e2-highmem-2", 2, 16384),
    ("e2-standard-4", 4, 16384),
    ("e2-highmem-4", 4, 32768),
    ("e2-standard-8", 8, 32768),
    ("e2-highmem-8", 8, 65536),
    ("e2-standard-16", 16, 65536),
    ("e2-highmem-16", 16, 131072),
    ("e2-standard-32", 32, 131072),
    ("n2-standard-48", 48, 196608),
    ("n2-highmem-48", 48, 393216),
    ("n2-standard-80", 80, 327680),
    ("n2-highmem-80", 80, 655360),
)
"""Name, processors, memory in MB; ascending by price."""

_SLOW_BY_DEFAULT = frozenset(["a2", "c2", "c2d", "custom", "e2", "f1", "g1", "g2", "m1", "m2", "n1", "n2", "n2d", "t2a", "t2d"])
"""The machine series of the first and second generation, whose default disk type is pd-standard, the slowest.

The default of C3, C3D and M3 is pd-balanced, that of all newer series hyperdisk-balanced, and many of these support nothing else
(AttachedDiskInitializeParams.diskType in the discovery document of compute v1). Types such as `custom-2-4096` are N1.
That every series of the first two generations supports pd-balanced is a guess.
"""


def disk_type(machine_type: str) -> str:
    """Return the disk type to request with a machine type; "" if the series' default is not slower."""
    return "pd-balanced" if machine_type.partition("-")[0] in _SLOW_BY_DEFAULT else ""


def choose(cpus: int, memory_mb: int) -> str:
    """Return the smallest machine type with at least this many processors and this much memory. InvalidError: there is none."""
    for name, its_cpus, its_memory_mb in _TYPES:
        if its_cpus >= cpus and its_memory_mb >= memory_mb:
            return name
    raise InvalidError(
        f"Bakehouse knows no machine type with {cpus} processors and {memory_mb} MB",
        next_step="Choose one yourself: --type m3-ultramem-32 (see: gcloud compute machine-types list)",
    )


def check(client: Client, name: str) -> None:
    """Raise InvalidError if no zone has a machine type. Custom types are in no list, and a list that is refused proves nothing."""
    try:
        offers, missing = partly(lambda: everywhere(client, "machine_types", f'name="{name}"'))
    except CloudError:
        return
    if not (offers or missing or "custom" in name):
        otherwise = "Choose a --type: gcloud compute machine-types list"
        raise InvalidError(
            f"unknown machine type {name!r}", next_step=did_you_mean(name, [known for known, _, _ in _TYPES], otherwise=otherwise)
        )
