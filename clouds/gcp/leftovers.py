"""Find orphaned resources of deleted machines (disks, firewall rules), and reserved addresses, which are kept on purpose."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clouds.driver import Kind, Resource, State
from clouds.errors import NotFoundError, UnreachableError
from clouds.gcp import naming, network, sdk
from clouds.gcp.client import Client
from clouds.gcp.instances import seconds, zone_of
from clouds.gcp.machines import Machines
from clouds.gcp.scopes import everywhere
from clouds.incomplete import partly, whole


def disks(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    """Return the unused disks with all these labels."""
    found, missing = partly(lambda: everywhere(client, "disks", naming.label_filter(labels)))
    resources = [
        Resource(
            kind=Kind.DISK,
            name=disk.name,
            state=State.READY,
            labels=naming.from_labels(disk.labels),
            created_at=seconds(disk.creation_timestamp),
            size_bytes=disk.size_gb * 2**30,
            zone=zone_of(disk),
            type=disk.type_.rpartition("/")[2],
        )
        for disk in found
        if not disk.users
    ]
    return whole("disks of gcp", resources, missing)


def orphan_rules(client: Client, labels: Mapping[str, str], machines: Machines) -> list[Resource]:
    """Return the unused firewall rules with all these labels: their machine is gone, or lacks their tag.

    UnreachableError: the machines of some may be in a zone that could not be reached; those rules are left out.
    """
    found = [_rule(rule) for rule in network.our_rules(client)]
    ours = [rule for rule in found if labels.items() <= rule.labels.items()]
    missing: set[str] = set()
    tags: dict[str, Collection[str]] = {}
    for machine in {rule.labels.get("machine", "") for rule in ours}:
        try:
            tags[machine] = machines.get(machine).tags.items
        except NotFoundError:
            tags[machine] = ()
        except UnreachableError as error:
            missing.update(error.scopes)
    orphans = [rule for rule in ours if rule.name not in tags.get(rule.labels.get("machine", ""), (rule.name,))]
    return whole("firewall rules of gcp", orphans, missing)


def _rule(rule: sdk.compute.Firewall) -> Resource:
    return Resource(
        kind=Kind.RULE,
        name=rule.name,
        state=State.READY,
        labels=naming.from_description(rule.description),
        created_at=seconds(rule.creation_timestamp),
    )


def addresses(client: Client, labels: Mapping[str, str]) -> list[Resource]:
    """Return our reserved addresses with all these labels."""
    expression = 'description="project=bakehouse role=address"'
    found, missing = partly(lambda: everywhere(client, "addresses", expression))
    resources = [
        Resource(
            kind=Kind.ADDRESS,
            name=address.name,
            state=State.RUNNING if address.users else State.READY,
            labels=naming.from_description(address.description),
            created_at=seconds(address.creation_timestamp),
            zone=address.region.rpartition("/")[2],
        )
        for address in found
    ]
    return whole("addresses of gcp", [resource for resource in resources if labels.items() <= resource.labels.items()], missing)
