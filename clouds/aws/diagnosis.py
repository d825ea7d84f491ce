"""What `doctor` checks of an account in a region: credentials, network, quota, permissions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from clouds.aws import failures, naming
from clouds.aws.client import Client
from clouds.aws.network import Subnets
from clouds.aws.places import Places
from clouds.errors import BakehouseError, CloudError, DeniedError, InvalidError
from clouds.findings import Check, Finding, Health, Size, ok

_STANDARD = "L-1216C47A"
"""The quota of vCPUs of running on-demand instances of the types that we choose (t3, m6i, r6i):
docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html."""
_SOON = timedelta(hours=1)
_ROLES = {"bake": "builder", "launch": "machine-in-progress"}
"""The tag `role` of what is created by each kind of work, by which the policies in docs/permissions tell them apart."""


def checks(client: Client, places: Places, largest: Size) -> Mapping[str, Check]:
    """Return the checks. Without credentials, no other can be made."""
    return {
        "credentials": lambda: _credentials(client),
        "network": lambda: _network(client, places),
        "quota": lambda: _quota(client, largest),
        "permissions": lambda: [_may(client, places, work, role) for work, role in _ROLES.items()],
    }


def _credentials(client: Client) -> list[Finding]:
    account, until = client.account, client.expires_at
    if until is None:
        return ok(f"accepted, of account {account}; no time is known at which they expire")
    text = f"accepted, of account {account}, until {until.astimezone():%Y-%m-%d %H:%M}"
    if until - datetime.now(UTC) < _SOON:
        return [Finding(Health.WARNING, f"{text}: a bake may take longer, unless they are renewed", failures.LOG_IN)]
    return ok(text)


def _network(client: Client, places: Places) -> list[Finding]:
    subnet = Subnets(client, places).choose(places.zone)
    return ok(f"region {client.region_name}: machines go to {subnet.id} in {subnet.zone}")


def _quota(client: Client, largest: Size) -> list[Finding]:
    try:
        answer = client.ask_quotas("quota of vCPUs", "get_service_quota", ServiceCode="ec2", QuotaCode=_STANDARD)
    except DeniedError as error:
        return [Finding(Health.UNKNOWN, error.message, error.next_step)]
    limit, used = float(answer["Quota"]["Value"]), _vcpus(client)
    text = f"{used} of {limit:g} vCPUs of on-demand instances are used, {largest.cpus} needed"
    if limit - used < largest.cpus:
        return [Finding(Health.PROBLEM, text, f"Request more at {failures.QUOTA_PAGE}, or stop machines.")]
    return ok(text)


def _vcpus(client: Client) -> int:
    """Return the vCPUs of all running on-demand instances in the region, ours or not."""
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    listed = client.items("instances", "describe_instances", "Reservations", Filters=states)
    found = [instance for reservation in listed for instance in reservation["Instances"]]
    options = [one["CpuOptions"] for one in found if one.get("InstanceLifecycle") != "spot" and "CpuOptions" in one]
    return sum(int(one["CoreCount"]) * int(one["ThreadsPerCore"]) for one in options)


def _may(client: Client, places: Places, work: str, role: str) -> Finding:
    """Try to create a security group, the first thing of each bake and launch, without doing so (DryRun).

    Other requests name what exists, so they cannot be tried before something does.
    """
    try:
        _try_group(client, places, role)
    except DeniedError:
        grant = f"If you are to {work}, ask for the policy in docs/permissions/aws-{work}.json (docs/permissions.md)."
        return Finding(Health.WARNING, f"you may not {work}: creating a security group was denied (dry run)", grant)
    except BakehouseError as error:
        return Finding(Health.UNKNOWN, error.message, error.next_step)
    return Finding(Health.OK, f"you may {work}, as far as the first request tells (dry run)")


def _try_group(client: Client, places: Places, role: str) -> None:
    """Raise DeniedError if a security group must not be created for a machine of this role; none is created."""
    tags = naming.specifications(naming.to_tags({"role": role}, "doctor"), ("security-group",))
    network = Subnets(client, places).choose(places.zone).network
    wanted = {"GroupName": "bakehouse-doctor", "VpcId": network, "Description": "Dry run", "TagSpecifications": tags}
    try:
        client.ask("permissions", "create_security_group", DryRun=True, **wanted)
    except InvalidError as error:  # how EC2 says yes: docs.aws.amazon.com/AWSEC2/latest/APIReference/CommonParameters.html
        if "DryRunOperation" in error.message:
            return
        raise
    raise CloudError("permissions: a dry run was carried out", next_step="Delete the security group bakehouse-doctor.")
