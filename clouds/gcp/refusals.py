"""Find out why Compute Engine rejected the request for a machine: a missing image, a machine type not available in the zone."""

from __future__ import annotations

from clouds.driver import BootSpec
from clouds.errors import CapacityError, CloudError, NotFoundError
from clouds.gcp import instances
from clouds.gcp.client import Client
from clouds.gcp.places import is_ai_zone, region_of
from clouds.gcp.scopes import everywhere
from clouds.incomplete import partly


def of_insert(client: Client, spec: BootSpec, zone: str, machine_type: str, error: CloudError) -> CloudError:
    """Return the specific error behind a rejection. If the message names the image or the type, one more request decides.

    CapacityError: other zones of the region have the machine type. NotFoundError: the image does not exist, which arrives as 404
    or as 400 `invalid` (docker-archive/infrakit.gcp#1).
    """
    source = instances.source_link(spec.source)
    if source in error.message and _is_gone(client, source):
        return _image_is_gone(spec, source)
    if machine_type in error.message:
        return _lacks_type(client, spec, zone, machine_type.rpartition("/")[2], error)
    return error


def _is_gone(client: Client, source: str) -> bool:
    owner = source.split("/")[1] if source.startswith("projects/") else client.project
    try:
        client.ask(f"image {source!r}", client.services.images.get, project=owner, image=source.rpartition("/")[2])
    except NotFoundError:
        return True
    except CloudError:
        return False
    return False


def _image_is_gone(spec: BootSpec, source: str) -> NotFoundError:
    is_base = source.startswith("projects/")
    next_step = "Use the newest base: ./inv bake --refresh" if is_base else "See: ./inv images --cloud gcp"
    return NotFoundError(f"image {spec.source!r} not found on gcp", next_step=next_step)


def _lacks_type(client: Client, spec: BootSpec, zone: str, kind: str, error: CloudError) -> CloudError:
    """Return the error for a machine type that a zone lacks: other zones of the region to try, as after a stock-out."""
    try:
        offers, _ = partly(lambda: everywhere(client, "machine_types", f'name="{kind}"'))
    except CloudError:
        return error
    zones = sorted({instances.zone_of(offer) for offer in offers})
    near = [other for other in zones if region_of(other) == region_of(zone) and other != zone and not is_ai_zone(other)]
    told = f"machine {spec.name!r}: type {kind!r} is not available in zone {zone}"
    if near:
        return CapacityError(told, zone=zone, zones=near, next_step="Try another --type.")
    if zones:
        error.next_step = f"Choose another --zone: {kind!r} is available in {', '.join(zones[:5])}."
    return error
