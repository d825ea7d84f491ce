"""References between resources, as requests write them."""

from __future__ import annotations

import re

from tests.servers.gce.errors import invalid, not_found
from tests.servers.gce.store import Store, scope_of

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


def found(store: Store, reference: str, field: str, *, project: str, collection: str, scope: str = "") -> str:
    """Return the path behind a reference to something that exists, in that scope; raises ApiError 400 or 404."""
    path = path_of(reference, field, project=project, collection=collection)
    if path.split("/")[1] != project and collection != "images":
        raise invalid(field, reference, "Cross-project references for this resource type are not allowed.")
    if scope and scope_of(path) != scope:
        kind, place = scope.split("/")
        raise invalid(field, reference, f"The referenced resource must be in the {kind.removesuffix('s')} '{place}'.")
    if path not in store:
        raise not_found(path)
    return path
