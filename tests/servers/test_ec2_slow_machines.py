"""The EC2 server: machines and disks that take their time, as real ones do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ec2 import serve
from tests.servers.ec2_asking import IMAGE_S, NOW, STATE_S, client, launch, shown, state
from tests.servers.vm import Done, ScriptedVms, Vm, VmError

pytestmark = pytest.mark.server

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2


class SlowVms(ScriptedVms):
    """Machines that are on, off and copied when the test says so, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.is_done = False
        self.error = ""

    def start(self, vm: Vm) -> Done:
        super().start(vm)
        return self._done

    def stop(self, vm_id: str) -> Done:
        super().stop(vm_id)
        return self._done

    def copy_disk(self, disk_id: str, image_id: str) -> Done:
        super().copy_disk(disk_id, image_id)
        return self._done

    def _done(self) -> bool:
        if self.error:
            raise VmError(self.error)
        return self.is_done


@pytest.fixture
def slow() -> SlowVms:
    return SlowVms()


@pytest.fixture
def ec2(slow: SlowVms) -> Iterator[Ec2]:
    with serve(vms=slow, state_s=STATE_S, image_s=IMAGE_S, clock=lambda: NOW) as server:
        yield server
        assert not server.crashes


def _on(ec2: Ec2, slow: SlowVms, api: Any) -> str:
    one = launch(api)
    slow.is_done = True
    ec2.advance(STATE_S)
    slow.is_done = False
    return one


def test_an_instance_is_pending_until_its_machine_is_on(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    one = launch(api)
    ec2.advance(STATE_S + 60)
    assert state(api, one) == "pending"
    slow.is_done = True
    assert state(api, one) == "running"


def test_an_instance_is_stopping_until_its_machine_is_off(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    one = _on(ec2, slow, api)
    api.stop_instances(InstanceIds=[one])
    ec2.advance(STATE_S + 60)
    assert state(api, one) == "stopping"
    slow.is_done = True
    assert state(api, one) == "stopped"


def test_an_instance_may_be_terminated_before_its_machine_is_on(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    one = launch(api)
    ec2.advance(STATE_S)
    api.terminate_instances(InstanceIds=[one])
    slow.is_done = True
    ec2.advance(STATE_S)
    assert (state(api, one), ec2.inventory()) == ("terminated", [])


def test_a_machine_that_fails_late_ends_its_instance(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    one = launch(api)
    ec2.advance(STATE_S)
    slow.error = "it died"
    assert (state(api, one), shown(api, one)["StateReason"]["Code"]) == ("terminated", "Server.InternalError")
    assert ec2.inventory() == []


def test_an_image_is_pending_until_its_disks_are_copied(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    mine = api.create_image(InstanceId=_on(ec2, slow, api), Name="mine", NoReboot=True)["ImageId"]
    ec2.advance(IMAGE_S + 60)
    assert api.describe_images(ImageIds=[mine])["Images"][0]["State"] == "pending"
    slow.is_done = True
    assert api.describe_images(ImageIds=[mine])["Images"][0]["State"] == "available"


def test_an_image_whose_copy_fails_is_failed(ec2: Ec2, slow: SlowVms) -> None:
    api = client(ec2)
    mine = api.create_image(InstanceId=_on(ec2, slow, api), Name="mine", NoReboot=True)["ImageId"]
    ec2.advance(IMAGE_S)
    slow.error = "disk full"
    found = api.describe_images(ImageIds=[mine])["Images"][0]
    assert (found["State"], found["StateReason"]["Message"]) == ("failed", "disk full")
