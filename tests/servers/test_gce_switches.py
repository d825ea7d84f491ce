"""The Compute Engine server: conditions that a test turns on and off."""

from __future__ import annotations

import threading

import pytest

from tests.servers.asking import BASE, ZONE, Answer, ask, boot, boot_disk, do, done, get, machine, wait
from tests.servers.gce import Gce, not_compatible, serve

ONE = f"{ZONE}/instances/one"
OTHER_ZONE = "zones/us-central1-b"
NO_ADDRESS = [{"network": "global/networks/default"}]


def insert(gce: Gce, zone: str = ZONE, **changes: object) -> Answer:
    body = machine("one", **{"machineType": f"{zone}/machineTypes/e2-small", **changes})
    return ask(gce, "POST", f"{zone}/instances", body)


# Zones that cannot be reached


@pytest.mark.parametrize("path", ["instances", "instances/one", "disks", "operations", "machineTypes/e2-small"])
def test_requests_to_an_unreachable_zone_fail(gce: Gce, path: str) -> None:
    boot(gce, "one")
    gce.switches.unreachable_zones.add("us-central1-a")
    answer = ask(gce, "GET", f"{ZONE}/{path}")
    assert (answer.status, answer.reason) == (503, "backendError")


def test_an_insert_into_an_unreachable_zone_leaves_nothing(gce: Gce) -> None:
    gce.switches.unreachable_zones.add("us-central1-a")
    assert insert(gce).status == 503
    assert gce.inventory() == []


def test_other_zones_are_served_and_the_zone_too_when_it_is_back(gce: Gce) -> None:
    gce.switches.unreachable_zones.add("us-central1-a")
    assert insert(gce, OTHER_ZONE).status == 200
    gce.switches.unreachable_zones.clear()
    assert insert(gce).status == 200


@pytest.mark.parametrize("which", ["unreachable_zones", "unlisted_zones"])
@pytest.mark.parametrize("kind", ["instances", "disks", "machineTypes", "operations"])
def test_an_aggregated_list_fails_as_a_whole_without_partial_success(gce: Gce, which: str, kind: str) -> None:
    getattr(gce.switches, which).add("us-central1-b")
    for query in ({}, {"returnPartialSuccess": "false"}):
        answer = ask(gce, "GET", f"aggregated/{kind}", **query)
        assert (answer.status, answer.reason) == (503, "backendError")


def test_an_aggregated_list_names_what_it_could_not_reach(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.unreachable_zones.add("us-central1-b")
    answer = get(gce, "aggregated/instances", returnPartialSuccess="true")
    assert answer["unreachables"] == [OTHER_ZONE]
    assert answer["items"][OTHER_ZONE]["warning"]["code"] == "UNREACHABLE"
    assert answer["items"]["zones/us-central1-c"]["warning"]["code"] == "NO_RESULTS_ON_PAGE"
    assert [found["name"] for found in answer["items"][ZONE]["instances"]] == ["one"]


def test_what_is_in_an_unreachable_zone_is_missing_in_the_list(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.unreachable_zones.add("us-central1-a")
    assert "instances" not in get(gce, "aggregated/instances", returnPartialSuccess="true")["items"][ZONE]


def test_lists_may_be_partial_unasked(gce: Gce) -> None:
    gce.switches.unreachable_zones.add("us-central1-b")
    gce.switches.lists_are_partial = True
    assert get(gce, "aggregated/disks")["unreachables"] == [OTHER_ZONE]


def test_a_list_of_regions_does_not_mind_a_zone(gce: Gce) -> None:
    gce.switches.unreachable_zones.add("us-central1-b")
    assert "unreachables" not in get(gce, "aggregated/addresses")


def test_a_healthy_list_has_no_unreachables(gce: Gce) -> None:
    assert "unreachables" not in get(gce, "aggregated/instances", returnPartialSuccess="true")


def test_a_name_that_the_list_left_out_is_taken_all_the_same(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.unlisted_zones.add("us-central1-a")
    answer = get(gce, "aggregated/instances", returnPartialSuccess="true")
    assert (answer["unreachables"], "instances" in answer["items"][ZONE]) == ([ZONE], False)
    refused = insert(gce)
    assert (refused.status, refused.reason) == (409, "alreadyExists")


# Operations that take their time


@pytest.mark.parametrize(("verb", "path"), [("POST", f"{ONE}/stop"), ("DELETE", ONE)])
@pytest.mark.parametrize(
    ("scheduling", "seconds"), [({}, 120), ({"provisioningModel": "SPOT"}, 30), ({"skipGuestOsShutdown": True}, 0)]
)
def test_a_guest_is_waited_for_no_longer_than_documented(verb: str, path: str, scheduling: dict[str, object], seconds: int) -> None:
    with serve(operation_s=1, clock=lambda: 1_800_000_000.0) as gce:
        insert(gce, scheduling=scheduling)
        gce.advance(2)
        gce.switches.guest_shutdown_s = 1000
        operation = ask(gce, verb, path).body["name"]
        end_s = max(0.3 + seconds, 1)  # the operation runs from 0.3 s on, and for 1 s at least
        states = []
        for pause_s in (0.5, end_s - 0.6, 0.2):
            gce.advance(pause_s)
            states.append(get(gce, f"{ZONE}/operations/{operation}")["status"])
        assert states == ["RUNNING", "RUNNING", "DONE"]


def test_an_instance_is_stopping_while_its_guest_shuts_down(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.guest_shutdown_s = 90
    ask(gce, "DELETE", ONE)
    gce.advance(60)
    assert get(gce, ONE)["status"] == "STOPPING"
    assert insert(gce).reason == "alreadyExists"
    gce.advance(31)
    assert gce.inventory() == []


def test_a_second_delete_ends_no_sooner_than_the_first(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.guest_shutdown_s = 90
    ask(gce, "DELETE", ONE)
    gce.advance(10)
    ask(gce, "DELETE", ONE)
    gce.advance(10)
    assert get(gce, ONE)["status"] == "STOPPING"


def test_an_instance_that_is_off_is_deleted_at_once(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/stop")
    gce.switches.guest_shutdown_s = 90
    done(gce, "DELETE", ONE)
    assert gce.inventory() == []


def test_a_started_instance_shuts_down_anew(gce: Gce) -> None:
    boot(gce, "one")
    for _ in range(2):
        gce.switches.guest_shutdown_s = 90
        ask(gce, "POST", f"{ONE}/stop")
        gce.advance(60)
        assert get(gce, ONE)["status"] == "STOPPING"
        gce.advance(60)
        assert get(gce, ONE)["status"] == "TERMINATED"
        done(gce, "POST", f"{ONE}/start")


def test_wait_may_answer_after_zero_seconds(gce: Gce) -> None:
    boot(gce, "one")
    gce.switches.guest_shutdown_s = 90
    gce.switches.wait_returns_at_once = True
    operation = ask(gce, "POST", f"{ONE}/stop").body
    gce.advance(5)
    assert wait(gce, operation)["status"] == "RUNNING"
    gce.advance(90)
    assert wait(gce, operation)["status"] == "DONE"


def test_a_zone_that_goes_out_of_reach_ends_a_wait(gce: Gce) -> None:
    gce.cloud.operations.duration_s = 1000
    operation = insert(gce).body
    lost = threading.Timer(0.05, gce.switches.unreachable_zones.add, ["us-central1-a"])
    lost.start()
    answer = ask(gce, "POST", f"{ZONE}/operations/{operation['name']}/wait")
    lost.join(10)
    assert (answer.status, answer.reason) == (503, "backendError")


# Policies and what the service offers


def test_a_policy_may_forbid_external_addresses(gce: Gce) -> None:
    gce.switches.forbids_external_addresses = True
    answer = insert(gce)
    assert (answer.status, answer.reason) == (412, "conditionNotMet")
    assert answer.message == (
        "Constraint constraints/compute.vmExternalIpAccess violated for project 123456789012. "
        f"Add instance projects/demo/{ONE} to the constraint to use external IP with it."
    )
    assert gce.inventory() == []


def test_the_policy_lets_an_instance_without_an_external_address_be(gce: Gce) -> None:
    gce.switches.forbids_external_addresses = True
    assert "accessConfigs" not in boot(gce, "one", networkInterfaces=NO_ADDRESS)["networkInterfaces"][0]


def test_a_machine_type_is_withdrawn_in_one_zone(gce: Gce) -> None:
    gce.withdraw(f"{ZONE}/machineTypes/e2-small")
    answer = insert(gce)
    assert (answer.status, answer.reason) == (400, "invalid")
    assert answer.message.endswith("Machine type with name 'e2-small' does not exist in zone 'us-central1-a'.")
    assert ask(gce, "GET", f"{ZONE}/machineTypes/e2-small").status == 404
    assert insert(gce, OTHER_ZONE).status == 200


@pytest.mark.parametrize(
    ("status", "reason", "message"),
    [
        (400, "invalid", "The referenced image resource cannot be found."),
        (404, "notFound", "The resource 'projects/demo/global/images/none' was not found"),
    ],
)
def test_a_missing_image_is_refused_either_way(gce: Gce, status: int, reason: str, message: str) -> None:
    gce.switches.missing_image_status = status  # type: ignore[assignment]
    answer = insert(gce, disks=boot_disk("global/images/none"))
    assert (answer.status, answer.reason) == (status, reason)
    assert message in answer.message


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [
        ("n1-standard-1", "pd-standard"),
        ("e2-small", "pd-standard"),
        ("n2-standard-2", "pd-standard"),
        ("c3-standard-4", "pd-balanced"),
        ("c4-standard-2", "hyperdisk-balanced"),
        ("n4-standard-2", "hyperdisk-balanced"),
    ],
)
def test_the_default_type_of_a_boot_disk_depends_on_the_machine_series(gce: Gce, machine_type: str, disk_type: str) -> None:
    boot(gce, "one", machineType=f"{ZONE}/machineTypes/{machine_type}")
    assert get(gce, f"{ZONE}/disks/one")["type"].endswith(f"/{ZONE}/diskTypes/{disk_type}")


@pytest.mark.parametrize(
    ("machine_type", "disk_type"),
    [
        ("n4-standard-2", "pd-balanced"),
        ("c4-standard-2", "pd-balanced"),
        ("c4-standard-2", "pd-ssd"),
        ("c3-standard-4", "pd-standard"),
        ("e2-small", "hyperdisk-balanced"),
    ],
)
def test_a_machine_series_refuses_disk_types(gce: Gce, machine_type: str, disk_type: str) -> None:
    disks = boot_disk(diskType=f"{ZONE}/diskTypes/{disk_type}")
    answer = insert(gce, machineType=f"{ZONE}/machineTypes/{machine_type}", disks=disks)
    assert (answer.status, answer.reason) == (400, "badRequest")
    assert answer.message == f"{disk_type} disk type cannot be used by {machine_type} machine type."
    assert gce.inventory() == []


def test_a_disk_that_is_there_must_be_of_a_usable_type(gce: Gce) -> None:
    done(gce, "POST", f"{ZONE}/disks", {"name": "root", "sourceImage": BASE})
    answer = insert(gce, machineType=f"{ZONE}/machineTypes/n4-standard-2", disks=[{"boot": True, "source": f"{ZONE}/disks/root"}])
    assert answer.message == "pd-standard disk type cannot be used by n4-standard-2 machine type."


def test_a_disk_to_attach_must_be_of_a_usable_type(gce: Gce) -> None:
    boot(gce, "one", machineType=f"{ZONE}/machineTypes/n4-standard-2")
    done(gce, "POST", f"{ZONE}/disks", {"name": "data", "sizeGb": "20"})
    answer = ask(gce, "POST", f"{ONE}/attachDisk", {"source": f"{ZONE}/disks/data"})
    assert (answer.status, answer.message) == (400, "pd-standard disk type cannot be used by n4-standard-2 machine type.")


def test_the_refusal_of_a_disk_type_has_other_words_too(gce: Gce) -> None:
    gce.fault("compute.instances.insert", error=not_compatible("pd-standard", "n4-standard-2"))
    answer = insert(gce)
    assert (answer.status, answer.reason) == (400, "badRequest")
    assert answer.message == "[pd-standard, n4-standard-2] features are not compatible for creating instance."


# States


def test_starting_a_running_instance_changes_nothing(gce: Gce) -> None:
    before = boot(gce, "one")
    assert "error" not in do(gce, "POST", f"{ONE}/start")
    assert get(gce, ONE) == before


@pytest.mark.parametrize("seconds", ["3600", "7200"])
def test_the_run_duration_of_a_running_instance_cannot_change(gce: Gce, seconds: str) -> None:
    limit = {"maxRunDuration": {"seconds": "1800"}, "instanceTerminationAction": "STOP"}
    boot(gce, "one", scheduling=limit)
    answer = ask(gce, "POST", f"{ONE}/setScheduling", {"maxRunDuration": {"seconds": seconds}})
    assert (answer.status, answer.message) == (400, "Max run duration cannot be changed while the instance is running.")
    assert get(gce, ONE)["scheduling"]["maxRunDuration"] == {"seconds": "1800"}


def test_the_run_duration_of_a_stopped_instance_changes_and_counts_from_its_start(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/stop")
    body = {"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "STOP"}
    done(gce, "POST", f"{ONE}/setScheduling", body)
    gce.advance(10000)
    done(gce, "POST", f"{ONE}/start")
    gce.advance(3500)
    assert get(gce, ONE)["status"] == "RUNNING"
    gce.advance(101)
    assert get(gce, ONE)["status"] == "TERMINATED"


def test_automatic_restart_of_a_running_instance_changes(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/setScheduling", {"automaticRestart": False})
    assert get(gce, ONE)["scheduling"]["automaticRestart"] is False


def test_scheduling_that_is_not_sent_stays_and_what_is_null_goes(gce: Gce) -> None:
    limit = {"maxRunDuration": {"seconds": "1800"}, "instanceTerminationAction": "STOP", "automaticRestart": False}
    boot(gce, "one", scheduling=limit)
    done(gce, "POST", f"{ONE}/stop")
    done(gce, "POST", f"{ONE}/setScheduling", {"maxRunDuration": None, "instanceTerminationAction": None})
    kept = get(gce, ONE)["scheduling"]
    assert not kept.keys() & {"maxRunDuration", "instanceTerminationAction"}
    assert kept["automaticRestart"] is False
