"""How long a guest may take to shut down before its instance is off."""

from __future__ import annotations

from collections.abc import Callable

from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import Json
from tests.servers.gce.store import unlink
from tests.servers.vm import Done

LONGEST_S, LONGEST_SPOT_S = 120.0, 30.0
"""Seconds between the ACPI signals G2 and G3: the discovery document, Scheduling.skipGuestOsShutdown."""


def begin(cloud: Cloud, instance: Json) -> None:
    """Note when the guest will be off at the latest; one that is off, or goes off already, changes nothing."""
    path = unlink(instance["selfLink"])
    if path in cloud.runs and instance["status"] == "RUNNING":
        cloud.guest_off_at[path] = cloud.engine.now() + _seconds(cloud, instance["scheduling"])


def _seconds(cloud: Cloud, scheduling: Json) -> float:
    if scheduling.get("skipGuestOsShutdown"):
        return 0.0
    longest = LONGEST_SPOT_S if scheduling["provisioningModel"] == "SPOT" else LONGEST_S
    return min(cloud.switches.guest_shutdown_s, longest)


def then(cloud: Cloud, path: str, act: Callable[[], Done]) -> Done:
    """Return a Done that acts once the guest is off, and is done when that is."""
    acting: list[Done] = []

    def done() -> bool:
        if cloud.engine.now() < cloud.guest_off_at.get(path, 0.0):
            return False
        if not acting:
            acting.append(act())
        return acting[0]()

    return done
