"""The part of the Cloud Resource Manager API, v1, that says what a caller may do in a project.

https://docs.cloud.google.com/resource-manager/reference/rest/v1/projects/testIamPermissions: no permission is required. A guess: a
project that does not exist is refused as one that the caller may not see.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from tests.servers.gce.cloud import Cloud
from tests.servers.gce.errors import ApiError, Json, unparsable

HOST = "cloudresourcemanager.googleapis.com"
METHOD = "cloudresourcemanager.projects.testIamPermissions"
_PATH = re.compile(r"/v1/projects/([^/:]+):testIamPermissions")
_PERMISSION = re.compile(r"[a-zA-Z]+(\.[a-zA-Z]+){2}")
_MOST = 100
"""How many permissions a request may name at most: a guess."""


def is_asked(path: str) -> bool:
    return _PATH.fullmatch(path) is not None


def answer(cloud: Cloud, path: str, body: object, granted: Collection[str] | None) -> Json:
    """Return those of the named permissions that the caller has (`granted`; None: all)."""
    check_enabled(cloud, HOST, "Cloud Resource Manager API")
    found = _PATH.fullmatch(path)
    assert found
    if found[1] != cloud.project:
        raise ApiError(403, "forbidden", "The caller does not have permission", status="PERMISSION_DENIED")
    if not isinstance(body, dict) or body.keys() - {"permissions"}:
        raise unparsable("Unknown name: Cannot find field.")
    named = body.get("permissions", [])
    wrong = [one for one in named if not _PERMISSION.fullmatch(one)] if isinstance(named, list) else [named]
    if wrong or len(named) > _MOST:
        what = f"Permission {wrong[0]} is not valid for this resource." if wrong else "Too many permissions."
        raise ApiError(400, "badRequest", what, status="INVALID_ARGUMENT")
    has = [one for one in named if granted is None or one in granted]
    return {"permissions": has} if has else {}


def check_enabled(cloud: Cloud, host: str, name: str) -> None:
    """Refuse requests to an API that is not enabled in the project, as in https://github.com/fog/fog/issues/3996."""
    if host in cloud.switches.disabled_services:
        page = f"https://console.developers.google.com/apis/api/{host}/overview?project={cloud.project}"
        message = (
            f"{name} has not been used in project {cloud.project} before or it is disabled. Enable it by visiting {page} "
            "then retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and retry."
        )
        raise ApiError(403, "accessNotConfigured", message, domain="usageLimits", status="PERMISSION_DENIED")
