"""Machine types of Compute Engine with NVIDIA GPUs (cloud.google.com/compute/docs/gpus)."""

from __future__ import annotations

from itertools import product

from clouds.driver import Wishes
from clouds.errors import CloudError
from clouds.gcp import sdk
from clouds.gcp.client import Client
from clouds.gcp.scopes import everywhere
from clouds.gpus import GpuType
from clouds.incomplete import partly

_GIB = 1024
_BUILT_IN = (
    GpuType("l4", 1, "g2-standard-4", 4, 16 * _GIB),
    GpuType("l4", 1, "g2-standard-8", 8, 32 * _GIB),
    GpuType("l4", 1, "g2-standard-12", 12, 48 * _GIB),
    GpuType("l4", 1, "g2-standard-16", 16, 64 * _GIB),
    GpuType("l4", 1, "g2-standard-32", 32, 128 * _GIB),
    GpuType("l4", 2, "g2-standard-24", 24, 96 * _GIB),
    GpuType("l4", 4, "g2-standard-48", 48, 192 * _GIB),
    GpuType("l4", 8, "g2-standard-96", 96, 384 * _GIB),
    GpuType("a100", 1, "a2-highgpu-1g", 12, 85 * _GIB),
    GpuType("a100", 2, "a2-highgpu-2g", 24, 170 * _GIB),
    GpuType("a100", 4, "a2-highgpu-4g", 48, 340 * _GIB),
    GpuType("a100", 8, "a2-highgpu-8g", 96, 680 * _GIB),
    GpuType("a100", 16, "a2-megagpu-16g", 96, 1360 * _GIB),
    GpuType("h100", 1, "a3-highgpu-1g", 26, 234 * _GIB),
    GpuType("h100", 2, "a3-highgpu-2g", 52, 468 * _GIB),
    GpuType("h100", 4, "a3-highgpu-4g", 104, 936 * _GIB),
    GpuType("h100", 8, "a3-highgpu-8g", 208, 1872 * _GIB),
)
"""Accelerator-optimized types, which always have their GPUs; the smallest of each model and number comes first."""
_N1 = (
    ("n1-standard-4", 4, 15 * _GIB),
    ("n1-highmem-4", 4, 26 * _GIB),
    ("n1-standard-8", 8, 30 * _GIB),
    ("n1-highmem-8", 8, 52 * _GIB),
    ("n1-standard-16", 16, 60 * _GIB),
    ("n1-highmem-16", 16, 104 * _GIB),
    ("n1-standard-32", 32, 120 * _GIB),
    ("n1-highmem-32", 32, 208 * _GIB),
)
"""N1 types, to which GPUs are attached: name, processors, memory in MB."""
_CPUS_MAX = {
    ("t4", 1): 48,
    ("t4", 2): 48,
    ("t4", 4): 96,
    ("p100", 1): 16,
    ("p100", 2): 32,
    ("p100", 4): 64,
    ("v100", 1): 12,
    ("v100", 2): 24,
    ("v100", 4): 48,
    ("v100", 8): 96,
}
"""The GPUs that can be attached to an N1 type, and the most processors that it may have then."""
_ATTACHED = tuple(
    GpuType(model, count, name, cpus, memory_mb)
    for ((model, count), most), (name, cpus, memory_mb) in product(_CPUS_MAX.items(), _N1)
    if cpus <= most
)
TYPES = (*_BUILT_IN, *_ATTACHED)
_SERIES = ("a2-", "a3-", "a4-", "a4x-", "g2-", "g4-")


def has_gpu(client: Client, name: str) -> bool:
    """Return whether a machine type always has GPUs; True also if no zone says so. Custom types are in no list, and have none."""
    if "custom" in name:
        return name.startswith(_SERIES)
    try:
        offers, _ = partly(lambda: everywhere(client, "machine_types", f'name="{name}"'))
    except CloudError:
        return True
    return not offers or any(offer.accelerators for offer in offers)


def is_bound_to_host(wishes: Wishes) -> bool:
    """Return whether a machine has GPUs, so that it cannot be migrated to another host."""
    return wishes.gpu is not None or wishes.machine_type.startswith(_SERIES)


def attached(wishes: Wishes, zone: str) -> list[sdk.compute.AcceleratorConfig]:
    """Return the GPUs to attach to a machine: none to a type that has its own."""
    gpu = wishes.gpu
    if gpu is None or (gpu.model, gpu.count) not in _CPUS_MAX:
        return []
    kind = f"zones/{zone}/acceleratorTypes/nvidia-tesla-{gpu.model}"
    return [sdk.compute.AcceleratorConfig(accelerator_type=kind, accelerator_count=gpu.count)]
