"""Eventual consistency of states: for a number of calls, DescribeInstances shows an instance as it was before a start or a stop.

https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html; boto/boto3#4386 met `stopped` after a start,
aws-samples/aws-python-sample#10 met `stopping` after a waiter had seen `stopped`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.servers.ec2.cloud import Cloud

_FIELDS = ("_state", "state_reason", "_reason", "launch_time")


@dataclass(slots=True)
class Before:
    """What an instance was like before its state was changed, and how many more calls show that."""

    fields: dict[str, Any]
    calls: int


def note_change(cloud: Cloud, instances: list[Any]) -> None:
    """Keep what instances are like, right before a request changes their state."""
    if calls := cloud.switches.stale_calls:
        for instance in instances:
            cloud.stale[instance.id] = Before({name: getattr(instance, name) for name in _FIELDS}, calls)


@contextmanager
def states(cloud: Cloud, backend: Any, action: str) -> Iterator[None]:
    """Serve DescribeInstances with the states of before, where those are still shown."""
    shown = [] if action != "DescribeInstances" else [one for one in backend.all_instances() if one.id in cloud.stale]
    kept = [(instance, {name: getattr(instance, name) for name in _FIELDS}) for instance in shown]
    for instance in shown:
        before = cloud.stale[instance.id]
        before.calls -= 1
        if not before.calls:
            del cloud.stale[instance.id]
        _lay(instance, before.fields)
    try:
        yield
    finally:
        for instance, fields in kept:
            _lay(instance, fields)


def _lay(instance: Any, fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        setattr(instance, name, value)
