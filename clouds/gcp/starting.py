"""Update a stopped machine before it starts again: new facts, a new deadline."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from clouds.gcp import instances, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish


def tell(client: Client, instance: sdk.compute.Instance, facts: Mapping[str, str]) -> None:
    """Add or replace facts of a machine."""
    items = instances.metadata_of(instance)
    known = instances.read_facts(items.get(instances.FACTS, ""))
    if facts.items() <= known.items():
        return
    items[instances.FACTS] = instances.write_facts({**known, **facts})
    metadata = sdk.compute.Metadata(fingerprint=instance.metadata.fingerprint, items=instances.metadata_items(items))
    what, send = f"machine {instance.name!r}", client.services.instances.set_metadata_unary
    finish(client, what, client.change(what, send, **instances.place(instance), metadata_resource=metadata))


def set_deadline(client: Client, instance: sdk.compute.Instance, deadline_s: int) -> None:
    """Limit the run time of a stopped machine to `deadline_s` seconds from its start; 0: no limit."""
    before = instance.scheduling
    after = sdk.compute.Scheduling(before)
    del after.max_run_duration, after.termination_time
    instances.limit_run_time(after, deadline_s)
    if deadline_s and not after.instance_termination_action:
        after.instance_termination_action, after.automatic_restart = "STOP", False
    if not deadline_s and after.provisioning_model != "SPOT":
        del after.instance_termination_action
    if changes := _changes(_json(before), _json(after)):
        what, send = f"machine {instance.name!r}", partial(_set_scheduling, client.services.instances.transport)
        finish(client, what, client.change(what, send, **instances.place(instance), body=changes))


def _json(schedule: sdk.compute.Scheduling) -> dict[str, object]:
    found: dict[str, object] = json.loads(sdk.compute.Scheduling.to_json(schedule, always_print_fields_with_no_presence=False))
    return found


def _changes(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    """Return the fields to send: those that differ, and null for those to clear.

    Other fields stay as they are, even those that this version of the library does not know. gcloud does the same: it sends the
    fields of its flags, and null for each --clear flag (surface/compute/instances/set_scheduling.py of the Google Cloud SDK).
    """
    return {key: after.get(key) for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)}


def _set_scheduling(transport: Any, fields: Mapping[str, Any], *, retry: None, timeout: float) -> sdk.compute.Operation:
    """Send instances.setScheduling as JSON: the library's messages cannot represent a null that clears a field."""
    from google.api_core.exceptions import from_http_response

    path = "projects/{project}/zones/{zone}/instances/{instance}/setScheduling".format(**fields)
    answer = transport._session.post(
        f"{transport._host}/compute/v1/{path}",
        params={"requestId": fields["request_id"]},
        json=fields["body"],
        timeout=timeout,
    )
    if answer.status_code >= 400:
        raise from_http_response(answer)  # type: ignore[no-untyped-call]
    operation: sdk.compute.Operation = sdk.compute.Operation.from_json(answer.content, ignore_unknown_fields=True)
    return operation
