"""What can be left of a machine that is gone: its disk, its firewall rules; and what is kept on purpose: reserved addresses."""

from __future__ import annotations

from collections.abc import Mapping

from clouds.driver import Kind, Resource, State
from clouds.gcp import naming, network
from clouds.gcp.calls import Calls
from clouds.gcp.instances import seconds, zone_of
from clouds.gcp.machines import Machines


def disks(calls: Calls, labels: Mapping[str, str]) -> list[Resource]:
    """Return the disks that carry all these labels and that no machine uses."""
    pages = calls.pages("disks", "aggregated/disks", naming.label_filter(labels))
    found = (disk for page in pages for scope in page.get("items", {}).values() for disk in scope.get("disks", ()))
    return [
        Resource(
            kind=Kind.DISK,
            name=disk["name"],
            state=State.READY,
            labels=naming.from_labels(disk.get("labels", {})),
            created_at=seconds(disk.get("creationTimestamp", "")),
            size_bytes=int(disk.get("sizeGb", 0)) * 2**30,
            zone=zone_of(disk),
        )
        for disk in found
        if not disk.get("users")
    ]


def orphan_rules(calls: Calls, labels: Mapping[str, str], machines: Machines) -> list[Resource]:
    """Return the firewall rules that carry all these labels and whose machine is not there."""
    found = [_rule(rule) for rule in network.our_rules(calls)]
    ours = [rule for rule in found if labels.items() <= rule.labels.items()]
    gone = {machine for machine in {rule.labels.get("machine", "") for rule in ours} if machines.find(machine) is None}
    return [rule for rule in ours if rule.labels.get("machine", "") in gone]


def _rule(rule: Mapping[str, str]) -> Resource:
    return Resource(
        kind=Kind.RULE,
        name=rule["name"],
        state=State.READY,
        labels=naming.from_description(rule.get("description", "")),
        created_at=seconds(rule.get("creationTimestamp", "")),
    )


def addresses(calls: Calls, labels: Mapping[str, str]) -> list[Resource]:
    """Return the addresses that we have reserved and that carry all these labels."""
    pages = calls.pages("addresses", "aggregated/addresses", 'description="project=bakehouse role=address"')
    found = (one for page in pages for scope in page.get("items", {}).values() for one in scope.get("addresses", ()))
    resources = [
        Resource(
            kind=Kind.ADDRESS,
            name=address["name"],
            state=State.RUNNING if address.get("users") else State.READY,
            labels=naming.from_description(address.get("description", "")),
            created_at=seconds(address.get("creationTimestamp", "")),
            zone=str(address.get("region", "")).rpartition("/")[2],
        )
        for address in found
    ]
    return [resource for resource in resources if labels.items() <= resource.labels.items()]
