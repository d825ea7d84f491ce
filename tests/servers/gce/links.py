"""References between resources, as requests write them."""

from __future__ import annotations

import re

from tests.servers.gce.errors import absent_machine_type, absent_reference, invalid, not_found
from tests.servers.gce.store import Store, name_of, scope_of

IMAGE_FAMILY = re.compile(r"projects/([^/]+)/(?:global/images/family|zones/[^/]+/imageFamilyViews)/([^/]+)")

_HOSTS = re.compile(r"https?://[^/]+/compute/(?:v1|beta|alpha)/")


def path_of(reference: str, field: str, *, project: str, collection: str) -> str:
    """Return the path behind a full or partial URL; raises ApiError 400."""
    path = absolute(reference, project)
    if not reference or not re.fullmatch(rf"projects/[^/]+/(?:zones/[^/]+|regions/[^/]+|global)/{collection}/[^/]+", path):
        raise invalid(field, reference, "The URL is malformed.")
    return path


def absolute(reference: str, project: str) -> str:
    """Return a reference without its host, and with a project."""
    text = _HOSTS.sub("", reference, count=1)
    return text if text.startswith("projects/") else f"projects/{project}/{text}"


def found(
    store: Store, reference: str, field: str, *, project: str, collection: str, scope: str = "", absent_kind: str = ""
) -> str:
    """Return the path behind a reference to something that exists, in that scope; raises ApiError.

    A reference to nothing is refused with 404, or with 400 and the name of its kind where `absent_kind` gives one.
    """
    path = path_of(reference, field, project=project, collection=collection)
    if path.split("/")[1] != project and collection != "images":
        raise invalid(field, reference, "Cross-project references for this resource type are not allowed.")
    if scope and scope_of(path) != scope:
        kind, place = scope.split("/")
        raise invalid(field, reference, f"The referenced resource must be in the {kind.removesuffix('s')} '{place}'.")
    if path not in store:
        raise absent_reference(field, reference, absent_kind) if absent_kind else not_found(path)
    return path


def machine_type_path(store: Store, reference: str, *, project: str, zone: str) -> str:
    """Return the path of a machine type of a zone; raises ApiError 400."""
    field, scope = "resource.machineType", f"zones/{zone}"
    path = path_of(reference, field, project=project, collection="machineTypes")
    if scope_of(path) == scope and path not in store:
        raise absent_machine_type(field, reference, name_of(path), zone)
    return found(store, reference, field, project=project, collection="machineTypes", scope=scope)
