"""The Compute Engine server: the life of instances."""

from __future__ import annotations

import re
import uuid

import pytest

from tests.servers.asking import ZONE, ask, boot, boot_disk, do, done, get, machine, wait
from tests.servers.gce import Gce
from tests.servers.vm import OFF, ScriptedVms

ONE = f"{ZONE}/instances/one"
SPOT = {"provisioningModel": "SPOT"}


def status(gce: Gce, name: str = "one") -> str:
    return str(gce.instance(name)["status"])


def test_an_instance_is_provisioned_staged_and_runs(gce: Gce) -> None:
    gce.cloud.operations.duration_s = 100
    ask(gce, "POST", f"{ZONE}/instances", machine("one"))
    seen = [status(gce)]
    for _ in range(2):
        gce.advance(60)
        seen.append(status(gce))
    assert seen == ["PROVISIONING", "STAGING", "RUNNING"]


def test_an_operation_is_pending_runs_and_is_done(gce: Gce) -> None:
    gce.cloud.operations.duration_s = 100
    name = ask(gce, "POST", f"{ZONE}/instances", machine("one")).body["name"]
    seen = []
    for _ in range(3):
        seen.append(get(gce, f"{ZONE}/operations/{name}")["status"])
        gce.advance(60)
    assert seen == ["PENDING", "RUNNING", "DONE"]


def test_wait_returns_a_finished_operation(gce: Gce) -> None:
    operation = done(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert (operation["status"], operation["progress"], operation["operationType"]) == ("DONE", 100, "insert")
    assert operation["targetLink"].endswith("/zones/us-central1-a/instances/one")


def test_an_instance_reads_as_the_real_service_writes_it(gce: Gce) -> None:
    instance = boot(gce, "one", labels={"a": "b"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", instance["creationTimestamp"])
    assert instance["id"].isdigit()
    assert instance["selfLink"] == "https://www.googleapis.com/compute/v1/projects/demo/zones/us-central1-a/instances/one"
    assert instance["scheduling"]["provisioningModel"] == "STANDARD"
    assert instance["networkInterfaces"][0]["accessConfigs"][0]["natIP"].startswith("127.")


def test_an_instance_is_found_by_its_number(gce: Gce) -> None:
    assert get(gce, f"{ZONE}/instances/{boot(gce, 'one')['id']}")["name"] == "one"


def test_the_same_request_id_gives_the_same_operation_and_one_instance(gce: Gce) -> None:
    request = str(uuid.uuid4())
    first = ask(gce, "POST", f"{ZONE}/instances", machine("one"), requestId=request).body
    wait(gce, first)
    second = ask(gce, "POST", f"{ZONE}/instances", machine("one"), requestId=request).body
    assert (second["name"], second["clientOperationId"]) == (first["name"], request)
    assert len(get(gce, f"{ZONE}/instances")["items"]) == 1


def test_delete_takes_the_boot_disk_along(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "DELETE", ONE)
    assert gce.inventory() == []


def test_delete_leaves_a_disk_without_auto_delete(gce: Gce) -> None:
    boot(gce, "one", disks=[{**boot_disk()[0], "autoDelete": False}])
    done(gce, "DELETE", ONE)
    assert gce.inventory() == ["disks us-central1-a/one READY"]
    assert "users" not in get(gce, f"{ZONE}/disks/one")


def test_stop_gives_the_ephemeral_address_back_and_start_gives_another(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/stop")
    stopped = get(gce, ONE)
    assert stopped["status"] == "TERMINATED"
    assert "lastStopTimestamp" in stopped
    assert "natIP" not in stopped["networkInterfaces"][0]["accessConfigs"][0]
    done(gce, "POST", f"{ONE}/start")
    assert get(gce, ONE)["networkInterfaces"][0]["accessConfigs"][0]["natIP"]


@pytest.mark.parametrize(("verb", "states"), [("stop", ("TERMINATED", "TERMINATED")), ("start", ("RUNNING", "RUNNING"))])
def test_stop_and_start_may_be_said_twice(gce: Gce, verb: str, states: tuple[str, str]) -> None:
    boot(gce, "one")
    seen = []
    for _ in states:
        done(gce, "POST", f"{ONE}/{verb}")
        seen.append(status(gce))
    assert tuple(seen) == states


def test_suspend_and_resume(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/suspend")
    assert status(gce) == "SUSPENDED"
    done(gce, "POST", f"{ONE}/resume")
    assert status(gce) == "RUNNING"


def test_the_machine_gets_what_the_instance_was_given(gce: Gce, vms: ScriptedVms) -> None:
    metadata = {"items": [{"key": "startup-script", "value": "#!/bin/sh"}]}
    boot(gce, "one", metadata=metadata, tags={"items": ["bake"]}, scheduling=SPOT)
    vm = vms.boots[0]
    assert (vm.name, vm.zone, vm.cpus, vm.memory_mb, vm.spot) == ("one", "us-central1-a", 2, 2048, True)
    assert vm.metadata == {"startup-script": "#!/bin/sh"}
    assert vm.drives[0].image.endswith("debian-13-trixie-v20261111")


def test_a_guest_that_powers_off_leaves_a_terminated_instance(gce: Gce, vms: ScriptedVms) -> None:
    vms.play = lambda vm: ["bye\n", OFF]
    boot(gce, "one")
    gce.advance(1)
    assert status(gce) == "TERMINATED"
    operations = [entry["operationType"] for entry in get(gce, f"{ZONE}/operations")["items"]]
    assert "compute.instances.guestTerminate" in operations


@pytest.mark.parametrize(("action", "left"), [("STOP", ["TERMINATED"]), ("DELETE", [])])
def test_a_run_that_is_too_long_ends_as_was_asked(gce: Gce, action: str, left: list[str]) -> None:
    boot(gce, "one", scheduling={"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": action})
    gce.advance(3500)
    assert status(gce) == "RUNNING"
    gce.advance(101)
    assert [line.split()[-1] for line in gce.inventory() if line.startswith("instances")] == left


def test_a_restarted_run_has_its_whole_time_again(gce: Gce) -> None:
    boot(gce, "one", scheduling={"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "STOP"})
    gce.advance(3000)
    done(gce, "POST", f"{ONE}/stop")
    done(gce, "POST", f"{ONE}/start")
    gce.advance(3000)
    assert status(gce) == "RUNNING"


def test_the_limit_of_a_run_is_cleared_by_a_suspension_and_set_anew_by_the_resumption(gce: Gce) -> None:
    boot(gce, "one", scheduling={"maxRunDuration": {"seconds": "3600"}, "instanceTerminationAction": "STOP"})
    first = get(gce, ONE)["resourceStatus"]["scheduling"]["terminationTimestamp"]
    done(gce, "POST", f"{ONE}/suspend")
    assert "resourceStatus" not in get(gce, ONE)
    gce.advance(4000)
    assert status(gce) == "SUSPENDED"
    done(gce, "POST", f"{ONE}/resume")
    assert get(gce, ONE)["resourceStatus"]["scheduling"]["terminationTimestamp"] > first
    gce.advance(3000)
    assert status(gce) == "RUNNING"
    gce.advance(700)
    assert status(gce) == "TERMINATED"


@pytest.mark.parametrize(("action", "left"), [("STOP", ["TERMINATED"]), ("DELETE", [])])
def test_preemption_ends_a_spot_machine_as_was_asked(gce: Gce, action: str, left: list[str]) -> None:
    boot(gce, "one", scheduling={**SPOT, "instanceTerminationAction": action})
    gce.preempt("one")
    gce.advance(1)
    assert [line.split()[-1] for line in gce.inventory() if line.startswith("instances")] == left
    wanted = 'operationType="compute.instances.preempted"'
    assert get(gce, f"{ZONE}/operations", filter=wanted)["items"][0]["user"] == "system"


def test_labels_change_with_the_fingerprint_of_those_that_are_there(gce: Gce) -> None:
    old = boot(gce, "one", labels={"a": "b"})["labelFingerprint"]
    done(gce, "POST", f"{ONE}/setLabels", {"labels": {"c": "d"}, "labelFingerprint": old})
    assert get(gce, ONE)["labels"] == {"c": "d"}
    assert ask(gce, "POST", f"{ONE}/setLabels", {"labels": {}, "labelFingerprint": old}).status == 412


def test_metadata_that_was_changed_meanwhile_is_told_in_the_operation(gce: Gce) -> None:
    old = boot(gce, "one")["metadata"]["fingerprint"]
    gce.cloud.operations.duration_s = 100
    first, second = (
        ask(gce, "POST", f"{ONE}/setMetadata", {"items": [{"key": "k", "value": value}], "fingerprint": old}).body for value in "ab"
    )
    gce.advance(200)
    assert "error" not in wait(gce, first)
    ended = wait(gce, second)
    assert (ended["error"]["errors"][0]["code"], ended["httpErrorStatusCode"]) == ("CONDITION_NOT_MET", 412)


def test_the_machine_type_of_a_stopped_instance_changes(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ONE}/stop")
    done(gce, "POST", f"{ONE}/setMachineType", {"machineType": f"{ZONE}/machineTypes/e2-medium"})
    assert get(gce, ONE)["machineType"].endswith("/e2-medium")


def test_a_disk_is_attached_and_detached(gce: Gce) -> None:
    boot(gce, "one")
    done(gce, "POST", f"{ZONE}/disks", {"name": "data", "sizeGb": "20"})
    done(gce, "POST", f"{ONE}/attachDisk", {"source": f"{ZONE}/disks/data", "deviceName": "data"})
    assert get(gce, f"{ZONE}/disks/data")["users"] == [get(gce, ONE)["selfLink"]]
    done(gce, "POST", f"{ONE}/detachDisk", deviceName="data")
    assert len(get(gce, ONE)["disks"]) == 1


def test_an_instance_that_is_deleted_while_it_starts_is_gone(gce: Gce) -> None:
    started = ask(gce, "POST", f"{ZONE}/instances", machine("one")).body
    done(gce, "DELETE", ONE)
    wait(gce, started)
    gce.advance(10)
    assert gce.inventory() == []


def test_regions_tell_quotas_and_their_use(gce: Gce) -> None:
    boot(gce, "one")
    quotas = {quota["metric"]: (quota["usage"], quota["limit"]) for quota in get(gce, "regions/us-central1")["quotas"]}
    assert quotas["CPUS"] == (2, 24)
    assert quotas["IN_USE_ADDRESSES"] == (1, 8)


def test_too_many_addresses_are_a_quota_error(gce: Gce) -> None:
    gce.cloud.quotas["us-central1"]["IN_USE_ADDRESSES"] = 1
    boot(gce, "one")
    answer = ask(gce, "POST", f"{ZONE}/instances", machine("two"))
    assert (answer.status, answer.reason) == (403, "quotaExceeded")
    assert answer.message == "Quota 'IN_USE_ADDRESSES' exceeded.  Limit: 1.0 in region us-central1."


def test_an_operation_is_deleted(gce: Gce) -> None:
    operation = do(gce, "POST", f"{ZONE}/instances", machine("one"))
    assert ask(gce, "DELETE", f"{ZONE}/operations/{operation['name']}").status == 200
    assert ask(gce, "GET", f"{ZONE}/operations/{operation['name']}").status == 404
