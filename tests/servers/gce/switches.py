"""Conditions of the service that a test turns on and off: `gce.switches.unreachable_zones.add("us-central1-b")`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(slots=True)
class Switches:
    """How the service behaves; the defaults are those of a healthy service.

    `unreachable_zones`: each request to such a zone fails with 503, and aggregated lists leave the zone out.
    `unlisted_zones`: aggregated lists leave such a zone out, but requests to it are served.
    `lists_are_partial`: aggregated lists leave zones out without `returnPartialSuccess`, too, rather than fail.
    `wait_returns_at_once`: `wait` answers after zero seconds, whatever the state of the operation.
    `guest_shutdown_s`: seconds that a running guest takes to shut down at a stop or a delete.
    `forbids_external_addresses`: the policy constraints/compute.vmExternalIpAccess allows no instance.
    `disabled_services`: the APIs that are not enabled in the project, such as `compute.googleapis.com`.
    `missing_image_status`: what `instances.insert` answers to an image that does not exist; 400 has the better source.
    """

    unreachable_zones: set[str] = field(default_factory=set)
    unlisted_zones: set[str] = field(default_factory=set)
    lists_are_partial: bool = False
    wait_returns_at_once: bool = False
    guest_shutdown_s: float = 0.0
    forbids_external_addresses: bool = False
    disabled_services: set[str] = field(default_factory=set)
    missing_image_status: Literal[400, 404] = 400
