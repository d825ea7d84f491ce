"""The ends of machines by EventBridge Scheduler, which the setting `scheduler_role` turns on: EC2 itself limits no run time.

A schedule calls StopInstances or TerminateInstances once, and is deleted afterwards
(docs.aws.amazon.com/scheduler/latest/UserGuide/managing-targets-universal.html, .../managing-schedule-delete.html). So one whose
machine is gone lasts until then at the longest. Schedules have no tags: the name of a machine's schedule contains a digest of the
machine's token, and each start of the machine changes that one schedule.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from clouds import names
from clouds.aws import instances, naming
from clouds.aws.client import Client
from clouds.aws.instances import Instance
from clouds.driver import BootSpec
from clouds.errors import CloudError, ConflictError, DeniedError, InvalidError, NotFoundError, QuotaError

TAG = "schedule"
"""The tag of an instance that has a schedule, or had one: its name."""
_LATE_S, _TRIES = 300, 10
"""For how long, and how often, Scheduler repeats a call that fails. Later, a machine may have been started again."""
BUSY_S = 60.0
"""For how long a schedule may refuse a change (409 ConflictException), because an earlier change of it has not ended: see
github.com/alchemy-run/distilled/pull/248. The time is a guess."""
_WITHOUT = "Or remove scheduler_role from your settings: then only the timer inside a machine stops it."


@dataclass(slots=True)
class Schedules:
    """The schedules of an account in a region; `role` is the ARN of the role that stops machines, "" for no schedules.

    `_wanted` are machines that were asked for here, and what their schedules are to do; `_refused` are those whose schedules were
    refused. `_failures` are the errors of `discard`, by the ids of instances.
    """

    client: Client
    role: str
    _wanted: dict[str, tuple[str, int]] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _failures: dict[str, CloudError] = field(default_factory=dict)

    def check(self) -> None:
        """Raise InvalidError for a role of another account: it cannot be passed to the Scheduler of this one.

        docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_passrole.html
        """
        account = self.role.split(":")[4] if self.role else ""
        if account and account != self.client.account:
            raise InvalidError(
                f"scheduler_role: {self.role} is a role of account {account}, but your credentials are for account "
                f"{self.client.account}",
                next_step=f"Set scheduler_role to a role of account {self.client.account}, as docs/clouds.md describes. {_WITHOUT}",
            )

    def tags(self, spec: BootSpec) -> dict[str, str]:
        """Return the tag of a machine that is to have a schedule, and note that `make_wanted` makes it."""
        if not (self.role and spec.deadline_s):
            return {}
        action = "terminateInstances" if instances.ends_for_good(spec) else "stopInstances"
        self._wanted[spec.name] = action, spec.deadline_s
        return {TAG: _name(spec.token)}

    def make_wanted(self, instance: Instance) -> None:
        """Make the schedule of a machine that was asked for here and runs now; of other machines, none."""
        name = instances.name_of(instance)
        if wanted := self._wanted.pop(name, None):
            try:
                self._put(instance, *wanted)
            except (DeniedError, InvalidError, QuotaError):
                self._refused.add(name)
                raise
            except BaseException:
                self._wanted[name] = wanted
                raise

    def renew(self, instance: Instance, deadline_s: int) -> None:
        """Set the schedule of a machine that is started, after which it may run for so long (0: for ever)."""
        if not (self.role and deadline_s):
            self.remove(instance)
            return
        self.check()
        if TAG not in naming.raw_tags(instance):  # it was launched without the setting
            tags = naming.to_tags({TAG: _name(_token(instance))}, instances.name_of(instance))
            self.client.ask(_what(instance), "create_tags", Resources=[instances.id_of(instance)], Tags=tags)
        self._put(instance, "stopInstances", deadline_s)

    def remove(self, instance: Instance) -> None:
        """Delete the schedule of a machine, if it has one; one that has run is deleted already."""
        if name := naming.raw_tags(instance).get(TAG):
            what = _what(instance)
            try:
                self.client.repeat(
                    ConflictError, BUSY_S, what, lambda: self.client.ask_scheduler(what, "delete_schedule", Name=name)
                )
            except NotFoundError:
                return

    def discard(self, instance: Instance) -> None:
        """Delete the schedule of a machine that is being terminated, which comes first: an error is kept for `raise_failure`."""
        if instances.name_of(instance) in self._refused:  # whoever may not create one may not be allowed to delete one either
            return
        try:
            self.remove(instance)
        except CloudError as error:
            error.next_step = f"The machine is deleted, and its schedule will be when it is due. {error.next_step}".strip()
            self._failures[instances.id_of(instance)] = error

    def raise_failure(self, instance_id: str) -> None:
        """Raise why the schedule of a machine was not deleted, once."""
        if error := self._failures.pop(instance_id, None):
            raise error

    def _put(self, instance: Instance, action: str, deadline_s: int) -> None:
        order, what = self._order(instance, action, deadline_s), _what(instance)
        with _advised():
            self.client.repeat(ConflictError, BUSY_S, what, lambda: self._put_once(what, order))

    def _put_once(self, what: str, order: dict[str, Any]) -> dict[str, Any]:
        """Create a schedule, or replace the one of this name: of an earlier start, or of a request whose answer was lost.

        ConflictError: that one is being changed or deleted.
        """
        try:
            return self.client.ask_scheduler(what, "create_schedule", **order)
        except ConflictError as conflict:
            try:
                return self.client.ask_scheduler(what, "update_schedule", **order)
            except NotFoundError:
                raise conflict from None

    def _order(self, instance: Instance, action: str, deadline_s: int) -> dict[str, Any]:
        """Return the request for a schedule; UpdateSchedule takes the same, and forgets what it does not name.

        It has no ClientToken of ours: botocore sends a new one with each request, and the same one when it repeats that. The token
        of an earlier request might mean that one, although its schedule has been deleted.
        The time is a full minute, since Scheduler may call its target at any second of the minute
        (docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html), and never before the deadline. One in the past would
        be refused.
        """
        at = math.ceil((time.time() + deadline_s) / 60) * 60
        partition = self.role.split(":")[1]  # aws, aws-cn, aws-us-gov
        return {
            "Name": _name(_token(instance)),
            "Description": f"Made by Bakehouse: the end of the machine {instances.name_of(instance)}",
            "ScheduleExpression": f"at({datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S})",
            "ScheduleExpressionTimezone": "UTC",
            "FlexibleTimeWindow": {"Mode": "OFF"},
            "ActionAfterCompletion": "DELETE",
            "Target": {
                "Arn": f"arn:{partition}:scheduler:::aws-sdk:ec2:{action}",
                "RoleArn": self.role,
                "Input": json.dumps({"InstanceIds": [instances.id_of(instance)]}),
                "RetryPolicy": {"MaximumEventAgeInSeconds": _LATE_S, "MaximumRetryAttempts": _TRIES},
            },
        }


@contextmanager
def _advised() -> Iterator[None]:
    """Add to an error that machines can do without a schedule."""
    try:
        yield
    except CloudError as error:
        error.next_step = f"{error.next_step} {_WITHOUT}".strip()
        raise


def _name(token: str) -> str:
    """Return the name of a schedule: up to 64 of `[0-9a-zA-Z-_.]`."""
    return f"{names.PROJECT}-{naming.client_token(token, TAG)}"


def _token(instance: Instance) -> str:
    return naming.raw_tags(instance).get("token", "")


def _what(instance: Instance) -> str:
    return f"machine {instances.name_of(instance)}: schedule"
