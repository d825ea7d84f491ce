"""What `doctor` checks of a project: credentials, Compute Engine and the region, quotas, permissions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC
from functools import partial
from typing import Any

from clouds import permissions
from clouds.errors import BakehouseError, DeniedError
from clouds.findings import Check, Finding, Health, Size, ok
from clouds.gcp import failures, sdk
from clouds.gcp.client import REQUEST_S, Client, sent
from clouds.gcp.places import Places

_PROJECTS = "https://cloudresourcemanager.googleapis.com"
_READ = "https://www.googleapis.com/auth/cloud-platform.read-only"
"""The smallest scope of projects.testIamPermissions (discovery document of cloudresourcemanager v1)."""
_MOST = 100
"""How many permissions one request names at most. A guess: the documentation names no limit."""


def checks(client: Client, places: Places, largest: Size) -> Mapping[str, Check]:
    """Return the checks. Without credentials, no other can be made."""
    return {
        "credentials": lambda: _credentials(client),
        "project": lambda: _project(client, places),
        "quota": lambda: _quota(client, places, largest),
        "permissions": lambda: _permissions(client),
    }


def _credentials(client: Client) -> list[Finding]:
    if client.endpoint:
        return ok(f"none are needed for {client.endpoint}")
    from google.auth.transport.requests import Request

    found = _log_in(client)
    sent("credentials", partial(found.refresh, Request()))
    until = found.expiry.replace(tzinfo=UTC).astimezone() if found.expiry else None
    return ok(f"accepted, renewed automatically{f'; the present token is valid until {until:%H:%M}' if until else ''}")


def _log_in(client: Client) -> Any:
    from clouds.gcp import session

    return session.credentials(anonymous=bool(client.endpoint), scope=_READ)


def _project(client: Client, places: Places) -> list[Finding]:
    region = _region(client, places)
    if region.status != "UP":
        return [Finding(Health.WARNING, f"region {places.region} is {region.status}", "Choose another --region.")]
    return ok(f"project {places.project}, region {places.region}: Compute Engine is enabled")


def _region(client: Client, places: Places) -> sdk.compute.Region:
    return client.ask(f"region {places.region!r} of project {places.project!r}", client.services.regions.get, region=places.region)


def _quota(client: Client, places: Places, largest: Size) -> list[Finding]:
    """Compare what is free with the largest machine: E2 types count as CPUS, and pd-balanced as SSD (docs: Allocation quotas)."""
    needed = {"CPUS": largest.cpus, "INSTANCES": 1, "SSD_TOTAL_GB": largest.disk_gb, "IN_USE_ADDRESSES": 1}
    found = []
    for quota in _region(client, places).quotas:
        if quota.limit - quota.usage < needed.get(quota.metric, 0):
            text = f"{quota.metric} in {places.region}: {quota.usage:g} of {quota.limit:g} used, {needed[quota.metric]} needed"
            found.append(Finding(Health.PROBLEM, text, f"Request a higher quota at {failures.QUOTA_PAGE}, or delete what you can."))
    return found or ok(f"{places.region} has room for a machine of {largest.cpus} processors and {largest.disk_gb} GB")


def _permissions(client: Client) -> list[Finding]:
    roles = {work: permissions.of_work(work) for work in permissions.WORK}
    try:
        has = _held(client, sorted({one for role in roles.values() for one in role}))
    except BakehouseError as error:
        enable = f"Run: gcloud services enable cloudresourcemanager.googleapis.com --project {client.project}"
        return [Finding(Health.UNKNOWN, error.message, enable if isinstance(error, DeniedError) else error.next_step)]
    return [_of_work(work, [one for one in role if one not in has]) for work, role in roles.items()]


def _of_work(work: str, missing: list[str]) -> Finding:
    if not missing:
        return Finding(Health.OK, f"all permissions to {work}")
    grant = f"If you are to {work}, ask for the role in docs/permissions/gcp-{work}.yaml (docs/permissions.md)."
    return Finding(Health.WARNING, f"missing to {work}: {', '.join(missing)}", grant)


def _held(client: Client, wanted: list[str]) -> Collection[str]:
    """Return those of these permissions that the caller has in the project (cloudresourcemanager, projects.testIamPermissions)."""
    from google.api_core.exceptions import from_http_response
    from google.auth.transport.requests import AuthorizedSession

    session = AuthorizedSession(_log_in(client))  # type: ignore[no-untyped-call]
    session.trust_env = not client.endpoint
    url = f"{client.endpoint or _PROJECTS}/v1/projects/{client.project}:testIamPermissions"

    def test(some: list[str]) -> list[str]:
        answer = session.post(url, json={"permissions": some}, timeout=REQUEST_S)
        if answer.status_code >= 400:
            raise from_http_response(answer)  # type: ignore[no-untyped-call]
        held: list[str] = answer.json().get("permissions", [])
        return held

    pieces = [wanted[start : start + _MOST] for start in range(0, len(wanted), _MOST)]
    return {one for piece in pieces for one in sent("permissions", partial(test, piece))}
