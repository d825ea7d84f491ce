"""The Compute Engine server: firewall rules, networks, addresses."""

from __future__ import annotations

import pytest

from tests.servers.asking import REGION, ZONE, ask, boot, do, done, get, machine
from tests.servers.gce import Gce, serve
from tests.servers.gce.errors import Json

ME, OTHER = "203.0.113.7", "198.51.100.9"


def rule(gce: Gce, name: str, *ports: str, deny: bool = False, **more: object) -> None:
    kind = "denied" if deny else "allowed"
    done(gce, "POST", "global/firewalls", {"name": name, kind: [{"IPProtocol": "tcp", "ports": list(ports)}], **more})


def test_the_default_network_opens_ssh_to_the_world(gce: Gce) -> None:
    boot(gce, "one")
    assert gce.is_open("one", 22, OTHER)
    assert not gce.is_open("one", 8888, OTHER)


def test_a_rule_opens_its_ports_to_its_ranges(gce: Gce) -> None:
    boot(gce, "one")
    rule(gce, "web", "8000-9000", sourceRanges=[f"{ME}/32"])
    assert gce.is_open("one", 8888, ME)
    assert not gce.is_open("one", 8888, OTHER)
    assert not gce.is_open("one", 9001, ME)


def test_a_rule_for_a_tag_opens_only_what_has_it(gce: Gce) -> None:
    boot(gce, "one", tags={"items": ["web"]})
    boot(gce, "two")
    rule(gce, "web", "8888", targetTags=["web"])
    assert [gce.is_open(name, 8888, ME) for name in ("one", "two")] == [True, False]


@pytest.mark.parametrize(("priority", "is_open"), [(999, False), (1000, False), (1001, True)])
def test_a_denial_wins_at_the_same_priority(gce: Gce, priority: int, is_open: bool) -> None:
    boot(gce, "one")
    rule(gce, "web", "8888")
    rule(gce, "none", "8888", deny=True, priority=priority)
    assert gce.is_open("one", 8888, ME) is is_open


def test_a_disabled_rule_counts_for_nothing(gce: Gce) -> None:
    boot(gce, "one")
    rule(gce, "web", "8888")
    done(gce, "PATCH", "global/firewalls/web", {"name": "web", "disabled": True})
    assert not gce.is_open("one", 8888, ME)


def test_a_rule_of_another_network_counts_for_nothing(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", "global/networks", {"name": "other"})
    rule(gce, "web", "8888", network="global/networks/other")
    assert not gce.is_open("one", 8888, ME)


def test_a_rule_without_a_source_is_for_all(gce: Gce) -> None:
    rule(gce, "web", "80")
    assert get(gce, "global/firewalls/web")["sourceRanges"] == ["0.0.0.0/0"]


def test_a_network_in_use_stays_which_the_operation_tells(gce: Gce) -> None:
    done(gce, "POST", "global/networks", {"name": "mine"})
    rule(gce, "web", "80", network="global/networks/mine")
    operation = do(gce, "DELETE", "global/networks/mine")
    assert operation["error"]["errors"][0]["code"] == "RESOURCE_IN_USE_BY_ANOTHER_RESOURCE"
    done(gce, "DELETE", "global/firewalls/web")
    done(gce, "DELETE", "global/networks/mine")
    assert gce.inventory() == []


def test_an_automatic_network_has_a_subnetwork_in_each_region(gce: Gce) -> None:
    done(gce, "POST", "global/networks", {"name": "mine"})
    assert get(gce, f"{REGION}/subnetworks/mine")["ipCidrRange"] == "10.128.0.0/20"
    assert len(get(gce, "global/networks/mine")["subnetworks"]) == 3


def test_a_project_may_have_no_default_network() -> None:
    with serve(default_network=False) as gce:
        assert "items" not in get(gce, "global/networks")


def test_an_address_is_reserved_used_and_free_again(gce: Gce) -> None:
    done(gce, "POST", f"{REGION}/addresses", {"name": "home"})
    address = get(gce, f"{REGION}/addresses/home")
    assert address["status"] == "RESERVED"
    boot(gce, "one", networkInterfaces=_with(address))
    assert get(gce, f"{REGION}/addresses/home")["status"] == "IN_USE"
    done(gce, "DELETE", f"{ZONE}/instances/one")
    assert get(gce, f"{REGION}/addresses/home")["status"] == "RESERVED"
    done(gce, "DELETE", f"{REGION}/addresses/home")
    assert gce.inventory() == []


def _with(address: Json) -> list[Json]:
    return [{"accessConfigs": [{"natIP": address["address"]}]}]


def test_an_address_serves_one_instance(gce: Gce) -> None:
    done(gce, "POST", f"{REGION}/addresses", {"name": "home"})
    address = get(gce, f"{REGION}/addresses/home")
    boot(gce, "one", networkInterfaces=_with(address))
    answer = ask(gce, "POST", f"{ZONE}/instances", machine("two", networkInterfaces=_with(address)))
    assert (answer.status, answer.message) == (400, f"External IP address: {address['address']} is already in-use.")


def test_a_reserved_address_outlives_a_stop(gce: Gce) -> None:
    done(gce, "POST", f"{REGION}/addresses", {"name": "home"})
    address = get(gce, f"{REGION}/addresses/home")
    boot(gce, "one", networkInterfaces=_with(address))
    done(gce, "POST", f"{ZONE}/instances/one/stop")
    assert get(gce, f"{ZONE}/instances/one")["networkInterfaces"][0]["accessConfigs"][0]["natIP"] == address["address"]


def test_the_address_of_an_instance_may_be_kept(gce: Gce) -> None:
    used = boot(gce, "one")["networkInterfaces"][0]["accessConfigs"][0]["natIP"]
    done(gce, "POST", f"{REGION}/addresses", {"name": "home", "address": used})
    assert get(gce, f"{REGION}/addresses/home")["status"] == "IN_USE"


def test_no_two_instances_have_the_same_address(gce: Gce) -> None:
    addresses = {boot(gce, name)["networkInterfaces"][0]["accessConfigs"][0]["natIP"] for name in ("one", "two", "three")}
    assert len(addresses) == 3
