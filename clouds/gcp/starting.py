"""What a machine that is off is given before it starts again: new facts, a new deadline."""

from __future__ import annotations

from collections.abc import Mapping

from clouds.gcp import instances, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish


def tell(client: Client, instance: sdk.compute.Instance, facts: Mapping[str, str]) -> None:
    """Lay facts over those that a machine was told."""
    items = instances.metadata_of(instance)
    known = instances.read_facts(items.get(instances.FACTS, ""))
    if facts.items() <= known.items():
        return
    items[instances.FACTS] = instances.write_facts({**known, **facts})
    metadata = sdk.compute.Metadata(fingerprint=instance.metadata.fingerprint, items=instances.metadata_items(items))
    what, send = f"machine {instance.name}", client.services.instances.set_metadata_unary
    finish(client, what, client.change(what, send, **instances.place(instance), metadata_resource=metadata))


def set_deadline(client: Client, instance: sdk.compute.Instance, deadline_s: int) -> None:
    """Limit the run time of a machine that is off to `deadline_s` seconds from its start; 0: no limit."""
    before = instance.scheduling
    after = sdk.compute.Scheduling(before)
    del after.max_run_duration, after.termination_time
    instances.limit_run_time(after, deadline_s)
    if deadline_s and not after.instance_termination_action:
        after.instance_termination_action, after.automatic_restart = "STOP", False
    if not deadline_s and after.provisioning_model != "SPOT":
        del after.instance_termination_action
    if after != before:
        what, send = f"machine {instance.name}", client.services.instances.set_scheduling_unary
        finish(client, what, client.change(what, send, **instances.place(instance), scheduling_resource=after))
