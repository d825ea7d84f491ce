"""The permissions of a caller in a project, as the Cloud Resource Manager API tells them; APIs that are not enabled."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest

from tests.servers.asking import REGION, ask
from tests.servers.gce import Gce
from tests.servers.gce.iam import Role


def permissions(gce: Gce, body: Any, project: str = "demo") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", gce.port, timeout=10)
    try:
        connection.request("POST", f"/v1/projects/{project}:testIamPermissions", json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_owner_has_what_is_named_and_others_what_their_role_grants(gce: Gce) -> None:
    named = ["compute.instances.create", "compute.images.create"]
    assert permissions(gce, {"permissions": named}) == (200, {"permissions": named})
    gce.role = Role([(frozenset(named[:1]), "")])
    assert permissions(gce, {"permissions": named}) == (200, {"permissions": named[:1]})
    assert permissions(gce, {"permissions": named[1:]}) == (200, {})


@pytest.mark.parametrize("body", [{"permissions": ["compute.*"]}, {"permissions": ["compute.instances"]}, {"other": []}])
def test_wildcards_and_unknown_fields_are_refused(gce: Gce, body: Any) -> None:
    assert permissions(gce, body)[0] == 400


def test_another_project_is_refused(gce: Gce) -> None:
    assert permissions(gce, {"permissions": []}, project="other")[0] == 403


def test_an_api_that_is_not_enabled_says_where_to_enable_it(gce: Gce) -> None:
    gce.switches.disabled_services = {"compute.googleapis.com", "cloudresourcemanager.googleapis.com"}
    answer = ask(gce, "GET", REGION)
    assert (answer.status, answer.reason) == (403, "accessNotConfigured")
    assert "/apis/api/compute.googleapis.com/overview" in answer.message
    assert permissions(gce, {"permissions": []})[0] == 403
