"""The EC2 server: the life of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import LateError
from tests.servers.ec2_asking import STATE_S, boot, image, launch, refusal, refused, shown, state
from tests.servers.vm import OFF, ScriptedVms, Step, Vm, VmError

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


def test_an_instance_is_pending_until_its_machine_is_on(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = launch(api)
    ec2.advance(STATE_S - 1)
    assert (state(api, one), vms.boots) == ("pending", [])
    ec2.advance(1)
    assert state(api, one) == "running"
    assert [vm.id for vm in vms.boots] == [one]


def test_the_machine_gets_what_the_request_says(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    boot(ec2, api, InstanceType="m5.large", BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20}}])
    vm = vms.boots[0]
    assert (vm.name, vm.zone, vm.cpus, vm.memory_mb, vm.spot) == ("one", "us-east-1a", 2, 8192, False)
    assert [(drive.size_gb, drive.boot) for drive in vm.drives] == [(20, True)]
    assert vms.disks == {vm.drives[0].id: vm.drives[0].image}
    assert vm.drives[0].image.startswith("snap-")


def test_the_public_address_comes_with_the_boot_and_goes_with_a_stop(ec2: Ec2, api: Any) -> None:
    one = launch(api)
    assert "PublicIpAddress" not in shown(api, one)
    ec2.advance(STATE_S)
    first = shown(api, one)["PublicIpAddress"]
    assert first.startswith("127.")
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert "PublicIpAddress" not in shown(api, one)


def test_stop_and_start_take_their_time(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    change = api.stop_instances(InstanceIds=[one])["StoppingInstances"][0]
    assert (change["PreviousState"]["Name"], change["CurrentState"]["Name"]) == ("running", "stopping")
    assert state(api, one) == "stopping"
    ec2.advance(STATE_S)
    assert state(api, one) == "stopped"
    assert shown(api, one)["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    api.start_instances(InstanceIds=[one])
    assert state(api, one) == "pending"
    ec2.advance(STATE_S)
    assert state(api, one) == "running"
    assert len(vms.boots) == 2


def test_stopping_what_is_stopped_and_starting_what_runs_changes_nothing(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    assert api.start_instances(InstanceIds=[one])["StartingInstances"][0]["CurrentState"]["Name"] == "running"
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert api.stop_instances(InstanceIds=[one])["StoppingInstances"][0]["CurrentState"]["Name"] == "stopped"


def test_a_terminated_instance_takes_its_disk_along_and_is_shown_for_an_hour(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    one = boot(ec2, api)
    api.terminate_instances(InstanceIds=[one])
    assert state(api, one) == "shutting-down"
    ec2.advance(STATE_S)
    assert state(api, one) == "terminated"
    assert (ec2.inventory(), vms.disks) == ([], {})
    ec2.advance(3601)
    assert refused(api.describe_instances, InstanceIds=[one]) == "InvalidInstanceID.NotFound"


def test_a_disk_may_outlive_its_instance(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False}}])
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert [line.split()[0::1][0] for line in ec2.inventory()] == ["volumes"]
    assert api.describe_volumes()["Volumes"][0]["State"] == "available"


def test_terminating_twice_is_no_error(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    for _ in range(2):
        api.terminate_instances(InstanceIds=[one])
        ec2.advance(STATE_S)
    assert state(api, one) == "terminated"


def test_one_absent_id_terminates_nothing(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    assert refused(api.terminate_instances, InstanceIds=[one, "i-00000000000000000"]) == "InvalidInstanceID.NotFound"
    assert state(api, one) == "running"


def test_a_terminated_instance_cannot_be_started(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api)
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    assert refused(api.start_instances, InstanceIds=[one]) == "IncorrectInstanceState"


@pytest.mark.parametrize(("behavior", "end"), [("stop", "stopped"), ("terminate", "terminated")])
def test_a_guest_that_powers_off_is_stopped_or_terminated(ec2: Ec2, api: Any, vms: ScriptedVms, behavior: str, end: str) -> None:
    vms.play = lambda vm: ["done\n", 5.0, OFF]
    one = launch(api, InstanceInitiatedShutdownBehavior=behavior)
    ec2.advance(STATE_S + 5)
    assert state(api, one) in ("stopping", "shutting-down")
    ec2.advance(STATE_S)
    assert state(api, one) == end
    assert shown(api, one)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_the_shutdown_behavior_may_be_changed_while_it_runs(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, InstanceInitiatedShutdownBehavior="terminate")
    api.modify_instance_attribute(InstanceId=one, InstanceInitiatedShutdownBehavior={"Value": "stop"})
    ec2.power_off(one)
    ec2.advance(STATE_S)
    assert state(api, one) == "stopped"


def test_a_machine_that_cannot_start_ends_as_a_terminated_instance(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    def fail(vm: Vm) -> list[Step]:
        raise VmError("no memory")

    vms.play = fail
    one = launch(api)
    ec2.advance(STATE_S)
    assert (state(api, one), shown(api, one)["StateReason"]["Code"]) == ("terminated", "Server.InternalError")
    assert ec2.inventory() == []


def test_a_launch_may_fail_late(ec2: Ec2, api: Any) -> None:
    ec2.fault("RunInstances", error=LateError("Client.VolumeLimitExceeded", "Volume limit exceeded"))
    one = launch(api)
    ec2.advance(STATE_S)
    assert shown(api, one)["StateReason"]["Code"] == "Client.VolumeLimitExceeded"
    assert state(api, one) == "terminated"


def test_a_reboot_begins_anew(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    played: list[str] = []
    vms.play = lambda vm: played.append(vm.id) or []  # type: ignore[func-returns-value]
    one = boot(ec2, api)
    api.reboot_instances(InstanceIds=[one])
    assert played == [one, one]
    assert state(api, one) == "running"


def test_termination_protection(ec2: Ec2, api: Any) -> None:
    one = boot(ec2, api, DisableApiTermination=True)
    code, message, status = refusal(api.terminate_instances, InstanceIds=[one])
    assert (code, status) == ("OperationNotPermitted", 400)
    assert "disableApiTermination" in message


def test_an_instance_of_an_own_image_gets_its_disk(ec2: Ec2, api: Any, vms: ScriptedVms) -> None:
    mine = image(ec2, api, boot(ec2, api))
    boot(ec2, api, ImageId=mine)
    first, second = vms.boots[0].drives[0], vms.boots[-1].drives[0]
    assert vms.images[second.image] == first.id
    assert vms.disks[second.id] == second.image


def test_waiters_of_boto3_see_the_states(ec2: Ec2, api: Any) -> None:
    one = launch(api)
    ec2.advance(STATE_S)
    fast = {"WaiterConfig": {"Delay": 0, "MaxAttempts": 3}}
    api.get_waiter("instance_running").wait(InstanceIds=[one], **fast)
    api.get_waiter("instance_status_ok").wait(InstanceIds=[one], **fast)
    api.terminate_instances(InstanceIds=[one])
    ec2.advance(STATE_S)
    api.get_waiter("instance_terminated").wait(InstanceIds=[one], **fast)


def test_status_checks_take_their_time(ec2: Ec2, api: Any) -> None:
    ec2.switches.status_check_s = 90.0
    one, pending = boot(ec2, api), launch(api)

    def statuses(**more: Any) -> dict[str, str]:
        found = api.describe_instance_status(**more)["InstanceStatuses"]
        return {status["InstanceId"]: status["InstanceStatus"]["Status"] for status in found}

    assert statuses() == {one: "initializing"}
    assert statuses(IncludeAllInstances=True) == {one: "initializing", pending: "not-applicable"}
    ec2.advance(90)
    assert statuses(InstanceIds=[one]) == {one: "ok"}
