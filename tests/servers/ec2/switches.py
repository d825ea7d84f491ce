"""Conditions of the service that a test turns on and off: `ec2.switches.unseen_calls = 3`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Switches:
    """How the service behaves; the defaults are those of a healthy service.

    `unseen_calls`: how many describes of its kind do not see a resource that is created from now on; writes that name it fail
    as long. https://docs.aws.amazon.com/ec2/latest/devguide/eventual-consistency.html
    `writes_count`: whether the refused writes are among those calls, for a client that repeats only its write.
    `untagged_calls`: the same for describes with a filter by tag only.
    `stale_calls`: how many DescribeInstances show an instance as it was before the last start or stop (stale.py).
    `page_size`: the most items on a page, whatever the client asks for; a page may then hold fewer, and be empty.
    `capacity`: how many more instances of a type fit into a zone, by (type, zone); without an entry there is no limit.
    `spot_prices`: US dollars per hour, by (type, zone); others cost `spot_price`.
    `vcpus`, `spot_vcpus`: the quotas of a region, for on-demand and for Spot instances.
    `addresses`, `images`: quotas of a region: Elastic IP addresses, and AMIs of this account.
    `console_delay_s`: seconds from the start of an instance until its console has its first byte.
    `console_post_s`: seconds from a change of state until the output is posted that a call without `Latest` returns.
    `status_check_s`: seconds from the start of an instance until its status checks have passed.
    `notice_s`: seconds between the notice of an interruption and the interruption.
    `spot_lag_s`: seconds from the stop of a persistent Spot instance until its request says so; until then it cannot be started.
    `schedule_busy_s`: for how many seconds after a change of a schedule of EventBridge Scheduler further ones are refused.
    `unassumable_roles`: the ARNs of IAM roles that EventBridge Scheduler cannot assume.
    `respawn_s`: seconds until a persistent Spot request is fulfilled again.
    """

    unseen_calls: int = 0
    writes_count: bool = False
    untagged_calls: int = 0
    stale_calls: int = 0
    page_size: int | None = None
    capacity: dict[tuple[str, str], int] = field(default_factory=dict)
    spot_prices: dict[tuple[str, str], float] = field(default_factory=dict)
    spot_price: float = 0.0125
    vcpus: int = 64
    spot_vcpus: int = 64
    addresses: int = 5
    images: int = 50_000
    console_delay_s: float = 0.0
    console_post_s: float = 0.0
    status_check_s: float = 0.0
    notice_s: float = 120.0
    spot_lag_s: float = 0.0
    schedule_busy_s: float = 0.0
    unassumable_roles: set[str] = field(default_factory=set)
    respawn_s: float = 5.0
