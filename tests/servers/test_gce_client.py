"""The Compute Engine server, asked by google-cloud-compute."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import pytest
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import BadRequest, Conflict, Forbidden, NotFound, PreconditionFailed
from google.auth.credentials import AnonymousCredentials

from clouds.gcp import sdk
from tests.servers.gce import Gce, rate_limit_exceeded, stock_out
from tests.servers.vm import ScriptedVms

PLACE = {"project": "demo", "zone": "us-central1-a"}


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients that a driver needs."""

    instances: Any
    images: Any
    zone_operations: Any
    global_operations: Any


@pytest.fixture
def clients(gce: Gce) -> Clients:
    def client(kind: Any) -> Any:
        nobody: Any = AnonymousCredentials
        made = kind(credentials=nobody(), client_options=ClientOptions(api_endpoint=gce.url), transport="rest")
        made.transport._session.headers["User-Agent"] = "test"  # else taken for Bakehouse (tests/needed.py)
        return made

    return Clients(*(client(sdk.client_class(field.name)) for field in fields(Clients)))


def instance(name: str) -> dict[str, Any]:
    image = {"source_image": "projects/debian-cloud/global/images/family/debian-13"}
    return {
        "name": name,
        "machine_type": "zones/us-central1-a/machineTypes/e2-small",
        "disks": [{"boot": True, "auto_delete": True, "initialize_params": image}],
        "network_interfaces": [{"access_configs": [{}]}],
    }


def wait(clients: Clients, operation: Any) -> Any:
    return clients.zone_operations.wait(**PLACE, operation=operation.name)


def insert(clients: Clients, name: str = "one") -> Any:
    return wait(clients, clients.instances.insert_unary(**PLACE, instance_resource=instance(name)))


def test_a_machine_is_made_read_and_deleted(gce: Gce, clients: Clients, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["hello\n"]
    assert insert(clients).status.name == "DONE"
    assert clients.instances.get(**PLACE, instance="one").status == "RUNNING"
    request = {**PLACE, "instance": "one", "start": 2}
    assert clients.instances.get_serial_port_output(request).contents == "llo\n"
    wait(clients, clients.instances.delete_unary(**PLACE, instance="one"))
    assert gce.inventory() == []


def test_an_image_is_made_of_it(gce: Gce, clients: Clients) -> None:
    insert(clients)
    wait(clients, clients.instances.stop_unary(**PLACE, instance="one"))
    body = {"name": "mine", "source_disk": "zones/us-central1-a/disks/one", "family": "jupyter"}
    operation = clients.images.insert_unary(project="demo", image_resource=body)
    clients.global_operations.wait(project="demo", operation=operation.name)
    assert clients.images.get_from_family(project="demo", family="jupyter").name == "mine"
    assert "images mine READY" in gce.inventory()


def test_lists_are_read_through_their_pages(clients: Clients) -> None:
    for name in ("one", "two", "three"):
        insert(clients, name)
    request = {**PLACE, "max_results": 2, "filter": "name:t"}
    assert [found.name for found in clients.instances.list(request)] == ["three", "two"]
    assert [len(found.instances) for _, found in clients.instances.aggregated_list(project="demo") if found.instances] == [3]


def test_refusals_become_its_exceptions(gce: Gce, clients: Clients) -> None:
    insert(clients)
    with pytest.raises(Conflict, match="already exists"):
        insert(clients)
    with pytest.raises(NotFound):
        clients.instances.get(**PLACE, instance="none")
    gce.fault("compute.instances.get", error=rate_limit_exceeded())
    with pytest.raises(Forbidden) as refused:
        clients.instances.get(**PLACE, instance="one")
    assert refused.value.errors[0]["reason"] == "rateLimitExceeded"


def test_a_stock_out_keeps_its_code(gce: Gce, clients: Clients) -> None:
    gce.fault("compute.instances.insert", error=stock_out("us-central1-a", "e2-small", available="us-central1-b"))
    error = insert(clients).error.errors[0]
    assert error.code == "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
    assert error.error_details[0].error_info.metadatas["zonesAvailable"] == "us-central1-b"


def test_scopes_that_a_list_left_out_are_read(gce: Gce, clients: Clients) -> None:
    gce.switches.unlisted_zones.add("us-central1-b")
    gce.switches.lists_are_partial = True
    pages = clients.instances.aggregated_list(project="demo").pages
    page = next(iter(pages))
    assert list(page.unreachables) == ["zones/us-central1-b"]
    assert page.items["zones/us-central1-b"].warning.code == "UNREACHABLE"


def test_a_policy_and_a_missing_network_keep_their_reasons(gce: Gce, clients: Clients) -> None:
    gce.switches.forbids_external_addresses = True
    with pytest.raises(PreconditionFailed, match="vmExternalIpAccess") as refused:
        insert(clients)
    assert refused.value.errors[0]["reason"] == "conditionNotMet"
    body = instance("one") | {"network_interfaces": [{"network": "global/networks/none"}]}
    with pytest.raises(BadRequest, match="The referenced network resource cannot be found"):
        clients.instances.insert_unary(**PLACE, instance_resource=body)
