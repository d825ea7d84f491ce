"""The console of an instance: what GetConsoleOutput returns with and without `Latest`.

Without it: the output that was posted after the last change of state; with it: the output now, on Nitro only. Both are the last
64 KiB. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html,
https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-unreachable-instance.html#instance-console-console-output
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from moto.ec2.models.instance_types import INSTANCE_TYPES

from tests.servers.ec2.cloud import CONSOLE_BYTES, Cloud
from tests.servers.ec2.errors import ApiError
from tests.servers.ec2.states import GONE


def begin(cloud: Cloud, instance_id: str) -> None:
    cloud.console(instance_id).started_at = cloud.engine.now()


def post_later(cloud: Cloud, instance_id: str) -> None:
    """Post the output as it is some time after a change of state."""
    run = cloud.runs.get(instance_id)

    def post() -> None:
        if cloud.runs.get(instance_id) == run:
            keep(cloud, instance_id)

    cloud.after(cloud.switches.console_post_s, post)


def keep(cloud: Cloud, instance_id: str) -> None:
    """Post the output as it is now."""
    console = cloud.console(instance_id)
    console.posted, console.posted_at = now_of(cloud, instance_id), cloud.engine.now()


def now_of(cloud: Cloud, instance_id: str) -> bytes:
    """Return the last 64 KiB that the guest has written; nothing until `console_delay_s` after its start."""
    if cloud.engine.now() < cloud.console(instance_id).started_at + cloud.switches.console_delay_s:
        return b""
    return cloud.vms.serial(instance_id, 1).read(-CONSOLE_BYTES)[1]


def output(cloud: Cloud, instance: Any, *, latest: bool) -> dict[str, Any]:
    """Return the answer to GetConsoleOutput; raises ApiError."""
    if latest and INSTANCE_TYPES[instance.instance_type].get("Hypervisor") != "nitro":
        # code and text: github.com/aws/eks-node-monitoring-agent, the end-to-end test of its console logging
        message = "This instance type does not support retrieving the latest console logs"
        raise ApiError("UnsupportedOperation", message)
    console = cloud.console(instance.id)
    if latest and instance.state not in ("stopped", *GONE):
        text, at = now_of(cloud, instance.id), cloud.engine.now()
    else:
        text, at = console.posted or b"", console.posted_at or cloud.engine.now()
    shown = {"InstanceId": instance.id, "Timestamp": datetime.fromtimestamp(at, UTC)}
    return {**shown, "Output": base64.b64encode(text).decode()} if text else shown
