"""Instance types of EC2 with NVIDIA GPUs (docs.aws.amazon.com/ec2/latest/instancetypes/ac.html)."""

from __future__ import annotations

from clouds.aws.client import Client
from clouds.errors import CloudError
from clouds.gpus import GpuType

TYPES = (
    GpuType("t4", 1, "g4dn.xlarge", 4, 16384),
    GpuType("t4", 1, "g4dn.2xlarge", 8, 32768),
    GpuType("t4", 1, "g4dn.4xlarge", 16, 65536),
    GpuType("t4", 1, "g4dn.8xlarge", 32, 131072),
    GpuType("t4", 1, "g4dn.16xlarge", 64, 262144),
    GpuType("t4", 4, "g4dn.12xlarge", 48, 196608),
    GpuType("l4", 1, "g6.xlarge", 4, 16384),
    GpuType("l4", 1, "g6.2xlarge", 8, 32768),
    GpuType("l4", 1, "g6.4xlarge", 16, 65536),
    GpuType("l4", 1, "g6.8xlarge", 32, 131072),
    GpuType("l4", 1, "g6.16xlarge", 64, 262144),
    GpuType("l4", 4, "g6.12xlarge", 48, 196608),
    GpuType("l4", 4, "g6.24xlarge", 96, 393216),
    GpuType("l4", 8, "g6.48xlarge", 192, 786432),
    GpuType("a10g", 1, "g5.xlarge", 4, 16384),
    GpuType("a10g", 1, "g5.2xlarge", 8, 32768),
    GpuType("a10g", 1, "g5.4xlarge", 16, 65536),
    GpuType("a10g", 1, "g5.8xlarge", 32, 131072),
    GpuType("a10g", 1, "g5.16xlarge", 64, 262144),
    GpuType("a10g", 4, "g5.12xlarge", 48, 196608),
    GpuType("a10g", 4, "g5.24xlarge", 96, 393216),
    GpuType("a10g", 8, "g5.48xlarge", 192, 786432),
    GpuType("v100", 8, "p3dn.24xlarge", 96, 786432),
    GpuType("a100", 8, "p4d.24xlarge", 96, 1179648),
    GpuType("h100", 1, "p5.4xlarge", 16, 262144),
    GpuType("h100", 8, "p5.48xlarge", 192, 2097152),
)
"""The smallest of each model and number comes first. All are Nitro types (see `instance_types.check`): so no p3 but p3dn."""


def has_gpu(client: Client, name: str) -> bool:
    """Return whether a type has an NVIDIA GPU; True also if EC2 does not say so, or does not know the type."""
    try:
        found = client.ask(f"instance type {name}", "describe_instance_types", InstanceTypes=[name])["InstanceTypes"]
    except CloudError:
        return True
    return not found or any(gpu["Manufacturer"] == "NVIDIA" for gpu in found[0].get("GpuInfo", {}).get("Gpus", []))
