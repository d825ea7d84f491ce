"""Instance types of EC2 by processors and memory (docs.aws.amazon.com/ec2/latest/instancetypes)."""

from __future__ import annotations

from clouds.aws.client import Client
from clouds.errors import CloudError, DeniedError, InvalidError

_TYPES = (
    ("t3.small", 2, 2048),
    ("t3.medium", 2, 4096),
    ("t3.large", 2, 8192),
    ("r6i.large", 2, 16384),
    ("t3.xlarge", 4, 16384),
    ("r6i.xlarge", 4, 32768),
    ("t3.2xlarge", 8, 32768),
    ("r6i.2xlarge", 8, 65536),
    ("m6i.4xlarge", 16, 65536),
    ("r6i.4xlarge", 16, 131072),
    ("m6i.8xlarge", 32, 131072),
    ("r6i.8xlarge", 32, 262144),
    ("m6i.12xlarge", 48, 196608),
    ("r6i.12xlarge", 48, 393216),
    ("m6i.16xlarge", 64, 262144),
    ("r6i.16xlarge", 64, 524288),
    ("m6i.24xlarge", 96, 393216),
    ("r6i.24xlarge", 96, 786432),
)
"""Name, processors, memory in MB; the cheapest that fits comes first. All are Nitro types."""


def choose(cpus: int, memory_mb: int) -> str:
    """Return the smallest type with at least so many processors and so much memory. InvalidError: there is none."""
    for name, its_cpus, its_memory_mb in _TYPES:
        if its_cpus >= cpus and its_memory_mb >= memory_mb:
            return name
    raise InvalidError(
        f"{cpus} processors with {memory_mb} MB: no instance type that Bakehouse knows has as much",
        next_step="Name one: --type x2idn.16xlarge (see: aws ec2 describe-instance-types)",
    )


def check(client: Client, name: str) -> None:
    """Check a type that a user names. InvalidError: it is no Nitro type, or none of this region.

    Only Nitro types return what a console prints now (docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html,
    Latest), and Bakehouse reads each boot from there. Without the permission to ask, EC2 itself may refuse.
    """
    try:
        answer = client.ask(f"instance type {name}", "describe_instance_types", InstanceTypes=[name])
    except DeniedError:
        return
    except InvalidError as error:
        error.next_step = "Choose a --type of this region, for amd64, such as t3.large: aws ec2 describe-instance-types"
        raise
    if answer["InstanceTypes"] and answer["InstanceTypes"][0].get("Hypervisor") == "xen":
        raise InvalidError(
            f"instance type {name}: its console cannot be read while it runs, since it is not a Nitro type",
            next_step="Choose a --type of the current generation, such as t3.large or m6i.xlarge.",
        )


def need(client: Client, name: str) -> str:
    """Return a type and its processors, where they can be found out: what a quota was asked for."""
    try:
        found = client.ask(f"instance type {name}", "describe_instance_types", InstanceTypes=[name])["InstanceTypes"]
        return f"{name} ({found[0]['VCpuInfo']['DefaultVCpus']} vCPUs)"
    except (CloudError, IndexError, KeyError):
        return name
