"""What the service offers: zones, machine types, disk types, public images. A handful of each; some are missing in some zones."""

from __future__ import annotations

from collections.abc import Iterator

from tests.servers.gce.errors import Json
from tests.servers.gce.store import Store, link

REGIONS = {
    "us-central1": ("us-central1-a", "us-central1-ai1a", "us-central1-b", "us-central1-c", "us-central1-f"),
    "us-east1": ("us-east1-b", "us-east1-c", "us-east1-d"),
    "europe-west1": ("europe-west1-b", "europe-west1-c", "europe-west1-d"),
}
ZONES = tuple(zone for zones in REGIONS.values() for zone in zones)

MACHINE_TYPES = {
    "n1-standard-1": (1, 3840),
    "n1-standard-4": (4, 15360),
    "e2-micro": (2, 1024),
    "e2-small": (2, 2048),
    "e2-medium": (2, 4096),
    "e2-standard-2": (2, 8192),
    "e2-standard-4": (4, 16384),
    "e2-standard-8": (8, 32768),
    "e2-highmem-2": (2, 16384),
    "e2-highcpu-2": (2, 2048),
    "n2-standard-2": (2, 8192),
    "n2-standard-4": (4, 16384),
    "n2-standard-8": (8, 32768),
    "n4-standard-2": (2, 8192),
    "n4-standard-4": (4, 16384),
    "c3-standard-4": (4, 16384),
    "c3-standard-8": (8, 32768),
    "c4-standard-2": (2, 7168),
    "t2a-standard-2": (2, 8192),
    "g2-standard-4": (4, 16384),
}
MISSING = {
    "n4": ("us-central1-f", "us-east1-d", "europe-west1-c"),
    "c3": ("us-central1-f", "europe-west1-d"),
    "t2a": ("us-central1-c", "us-east1-b", "us-east1-c", "us-east1-d", "europe-west1-b", "europe-west1-c", "europe-west1-d"),
    "g2": ("us-central1-f", "us-east1-c"),
}
DISK_TYPES = ("pd-standard", "pd-balanced", "pd-ssd", "hyperdisk-balanced")
USABLE_DISK_TYPES = {
    "c3": ("pd-balanced", "pd-ssd", "hyperdisk-balanced"),
    "c4": ("hyperdisk-balanced",),
    "g2": ("pd-balanced", "pd-ssd"),
    "n4": ("hyperdisk-balanced",),
}
"""By machine series, the default first; https://cloud.google.com/compute/docs/disks/hyperdisks#machine-type-support.

The default of C3, C4 and N4 stands in the discovery document (AttachedDiskInitializeParams.diskType), that of G2 is a guess.
"""
USABLE_BY_OTHERS = ("pd-standard", "pd-balanced", "pd-ssd")

PUBLIC_IMAGES = {
    "debian-cloud": (
        ("debian-12-bookworm-v20261014", "debian-12", "X86_64"),
        ("debian-13-trixie-v20261014", "debian-13", "X86_64"),
        ("debian-13-trixie-v20261111", "debian-13", "X86_64"),
        ("debian-13-trixie-arm64-v20261111", "debian-13-arm64", "ARM64"),
    ),
    "ubuntu-os-cloud": (("ubuntu-2404-noble-amd64-v20261110", "ubuntu-2404-lts-amd64", "X86_64"),),
}

_SEEDED = "2026-11-12T08:00:00.000-08:00"


def region_of(zone: str) -> str:
    return zone.rsplit("-", 1)[0]


def usable_disk_types(machine_type: str) -> tuple[str, ...]:
    """Return the disk types that a machine type (its name) can use, the default first."""
    return USABLE_DISK_TYPES.get(machine_type.split("-")[0], USABLE_BY_OTHERS)


def machine_types(zone: str) -> Iterator[str]:
    """Yield the names of the machine types of a zone."""
    for name in MACHINE_TYPES:
        if zone not in MISSING.get(name.split("-")[0], ()):
            yield name


def seed(store: Store, project: str) -> None:
    """Fill a project with all that is there before the first request."""
    for zone in ZONES:
        _seed_zone(store, project, zone)
    for region, zones in REGIONS.items():
        urls = [link(f"projects/{project}/zones/{zone}") for zone in zones]
        store.add(f"projects/{project}/regions/{region}", {"status": "UP", "description": region, "zones": urls}, created=_SEEDED)
    for owner, images in PUBLIC_IMAGES.items():
        for name, family, architecture in images:
            path = f"projects/{owner}/global/images/{name}"
            if path not in store:
                store.add(
                    path, _public_image(family, architecture), created=f"{name[-8:-4]}-{name[-4:-2]}-{name[-2:]}T08:00:00.000-08:00"
                )


def _seed_zone(store: Store, project: str, zone: str) -> None:
    root = f"projects/{project}/zones/{zone}"
    region = link(f"projects/{project}/regions/{region_of(zone)}")
    store.add(root, {"status": "UP", "description": zone, "region": region}, created=_SEEDED)
    for name in machine_types(zone):
        store.add(f"{root}/machineTypes/{name}", _machine_type(name, zone), created=_SEEDED)
    for name in DISK_TYPES:
        body = {"description": name, "defaultDiskSizeGb": "100", "validDiskSize": "10GB-65536GB", "zone": link(root)}
        store.add(f"{root}/diskTypes/{name}", body, created=_SEEDED)


def _machine_type(name: str, zone: str) -> Json:
    cpus, memory_mb = MACHINE_TYPES[name]
    return {
        "description": f"{cpus} vCPU, {memory_mb // 1024} GB RAM",
        "guestCpus": cpus,
        "memoryMb": memory_mb,
        "maximumPersistentDisks": 128,
        "maximumPersistentDisksSizeGb": "263168",
        "zone": zone,
        "isSharedCpu": name in ("e2-micro", "e2-small", "e2-medium"),
        "architecture": "ARM64" if name.startswith("t2a") else "X86_64",
        **({"accelerators": [{"guestAcceleratorType": "nvidia-l4", "guestAcceleratorCount": 1}]} if name.startswith("g2") else {}),
    }


def _public_image(family: str, architecture: str) -> Json:
    features = [{"type": kind} for kind in ("UEFI_COMPATIBLE", "VIRTIO_SCSI_MULTIQUEUE", "GVNIC")]
    return {
        "family": family,
        "status": "READY",
        "sourceType": "RAW",
        "diskSizeGb": "10",
        "archiveSizeBytes": "1073741824",
        "architecture": architecture,
        "guestOsFeatures": features,
        "labelFingerprint": "42WmSpB8rSM=",
        "storageLocations": ["us", "eu", "asia"],
    }
