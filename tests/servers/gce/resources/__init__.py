"""The methods that are served, a module for each kind of resource."""

from tests.servers.gce.resources import (
    addresses,
    disks,
    edits,
    firewalls,
    images,
    instances,
    life,
    networks,
    plain,
    serial,
)

__all__ = ["addresses", "disks", "edits", "firewalls", "images", "instances", "life", "networks", "plain", "serial"]
