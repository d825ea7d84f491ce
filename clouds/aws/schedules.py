"""The ends of machines by EventBridge Scheduler, which the setting `scheduler_role` turns on: EC2 itself limits no run time.

A schedule calls StopInstances or TerminateInstances once, and is deleted afterwards
(docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html, .../managing-schedule-delete.html). So one whose
machine is gone lasts until then at the longest.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from clouds import names
from clouds.aws import instances, naming
from clouds.aws.client import Client
from clouds.aws.instances import Instance
from clouds.driver import BootSpec
from clouds.errors import ConflictError, NotFoundError

TAG = "schedule"
"""The tag of an instance that has a schedule, or had one: its name."""
_LATE_S, _TRIES = 300, 10
"""For how long, and how often, Scheduler repeats a call that fails. Later, a machine may have been started again."""


@dataclass(slots=True)
class Schedules:
    """The schedules of an account in a region; `role` is the ARN of the role that stops machines, "" for no schedules.

    `_wanted` are machines that were asked for here, and what their schedules are to do.
    """

    client: Client
    role: str
    _wanted: dict[str, tuple[str, int]] = field(default_factory=dict)

    def tags(self, spec: BootSpec) -> dict[str, str]:
        """Return the tag of a machine that is to have a schedule, and note that `make_wanted` makes it."""
        if not (self.role and spec.deadline_s):
            return {}
        action = "terminateInstances" if instances.ends_for_good(spec) else "stopInstances"
        self._wanted[spec.name] = action, spec.deadline_s
        return {TAG: _name(spec.token)}

    def make_wanted(self, instance: Instance) -> None:
        """Make the schedule of a machine that was asked for here and runs now; of other machines, none."""
        if wanted := self._wanted.pop(instances.name_of(instance), None):
            try:
                self._make(instance, *wanted)
            except BaseException:
                self._wanted[instances.name_of(instance)] = wanted
                raise

    def renew(self, instance: Instance, deadline_s: int) -> None:
        """Replace the schedule of a machine that is started, after which it may run for so long (0: for ever)."""
        if TAG in naming.raw_tags(instance):
            self.remove(instance)
        if self.role and deadline_s:
            if TAG not in naming.raw_tags(instance):  # it was launched without the setting
                tags = naming.to_tags({TAG: _name(_token(instance))}, instances.name_of(instance))
                self.client.ask(_what(instance), "create_tags", Resources=[instances.id_of(instance)], Tags=tags)
            self._make(instance, "stopInstances", deadline_s)

    def remove(self, instance: Instance) -> None:
        """Delete the schedule of a machine, if it has one; one that has run is deleted already."""
        if name := naming.raw_tags(instance).get(TAG):
            try:
                self.client.ask_scheduler(_what(instance), "delete_schedule", Name=name)
            except NotFoundError:
                return

    def _make(self, instance: Instance, action: str, deadline_s: int) -> None:
        at, instance_id, token = int(time.time() + deadline_s), instances.id_of(instance), _token(instance)
        partition = self.role.split(":")[1]  # aws, aws-cn, aws-us-gov
        try:
            self.client.ask_scheduler(
                _what(instance),
                "create_schedule",
                Name=_name(token),
                ClientToken=naming.client_token(token, str(at)),
                Description=f"Made by Bakehouse: the end of the machine {instances.name_of(instance)}",
                ScheduleExpression=f"at({datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S})",
                ScheduleExpressionTimezone="UTC",
                FlexibleTimeWindow={"Mode": "OFF"},
                ActionAfterCompletion="DELETE",
                Target={
                    "Arn": f"arn:{partition}:scheduler:::aws-sdk:ec2:{action}",
                    "RoleArn": self.role,
                    "Input": json.dumps({"InstanceIds": [instance_id]}),
                    "RetryPolicy": {"MaximumEventAgeInSeconds": _LATE_S, "MaximumRetryAttempts": _TRIES},
                },
            )
        except ConflictError:  # of this name there is only ours: the answer to an earlier request was lost
            return


def _name(token: str) -> str:
    """Return the name of a schedule: up to 64 of `[0-9a-zA-Z-_.]`."""
    return f"{names.PROJECT}-{naming.client_token(token, TAG)}"


def _token(instance: Instance) -> str:
    return naming.raw_tags(instance).get("token", "")


def _what(instance: Instance) -> str:
    return f"machine {instances.name_of(instance)}: schedule"
