"""A real machine behind the EC2 server: cloud-init, the console, a stop, an image, and a second machine from it."""

from __future__ import annotations

import base64
import gzip
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from clouds.local import connect
from clouds.waiter import until
from tests.servers import ec2_asking
from tests.servers.ec2 import serve
from tests.servers.qemu import AMAZON, QemuVms
from tests.vm.public_base import check_ssh_port, make_base

if TYPE_CHECKING:
    from tests.servers.ec2.server import Ec2

pytestmark = pytest.mark.vm

TAKES_S = 120
KEPT = "/root/kept"
FIRST = f"""#!/bin/bash
url=http://169.254.169.254/latest
token=$(curl -sS -X PUT $url/api/token -H 'X-aws-ec2-metadata-token-ttl-seconds: 60')
id=$(curl -sS $url/meta-data/instance-id -H "X-aws-ec2-metadata-token: $token")
without=$(curl -sS -o /dev/null -w '%{{http_code}}' $url/meta-data/instance-id)
echo "$id" >{KEPT}
sync
echo "I am $id; without a token: $without; $(cloud-id)" >/dev/ttyS0
"""
SECOND = f"""#!/bin/bash
echo "kept: $(cat {KEPT})" >/dev/ttyS0
poweroff
"""


@pytest.fixture(scope="module")
def slowness(vm_home: Path) -> float:
    return connect(vm_home, {}).slowness


@pytest.fixture(scope="module")
def ec2(vm_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ec2]:
    """Give EC2 with real machines."""
    check_ssh_port()
    folder = tmp_path_factory.mktemp("amazon")
    local = connect(vm_home, {})
    vms = QemuVms(folder, make_base(local, vm_home, folder / "base.qcow2", script="amazon-base.sh"), local.accelerator, AMAZON)
    with serve(vms=vms) as server:
        yield server
        assert server.crashes == []


@pytest.fixture(scope="module")
def api(ec2: Ec2) -> Any:
    """Give a boto3 client of that server, which does not retry."""
    return ec2_asking.client(ec2)


@pytest.fixture(scope="module")
def wait(slowness: float) -> Callable[..., Any]:
    """Give a wait for something that a guest does."""
    return lambda probe, what: until(probe, what=what, timeout_s=TAKES_S * slowness, poll_s=0.5)


def console(api: Any, instance_id: str) -> str:
    output = api.get_console_output(InstanceId=instance_id, Latest=True).get("Output", "")
    return output if isinstance(output, str) else base64.b64decode(output).decode(errors="replace")


def line(api: Any, instance_id: str, start: str) -> str:
    """Return the line of a console that starts so, once it is whole."""
    found = [line for line in console(api, instance_id).splitlines(keepends=True) if line.startswith(start)]
    return found[0].strip() if found and found[0].endswith("\n") else ""


def test_guest_runs_its_user_data_and_its_image_keeps_its_disk(ec2: Ec2, api: Any, wait: Callable[..., Any]) -> None:
    required = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
    first = ec2_asking.launch(api, UserData=gzip.compress(FIRST.encode()), MetadataOptions=required)
    assert wait(lambda: line(api, first, "I am"), "the first guest's line") == f"I am {first}; without a token: 401; aws"
    address = ec2_asking.shown(api, first)["PublicIpAddress"]
    with pytest.raises(OSError), socket.create_connection((address, 22), timeout=2):
        pass
    api.stop_instances(InstanceIds=[first])
    wait(lambda: ec2_asking.state(api, first) == "stopped", "the stop of the first instance")
    image = api.create_image(InstanceId=first, Name="kept")["ImageId"]
    wait(lambda: api.describe_images(ImageIds=[image])["Images"][0]["State"] == "available", "the image")
    second = ec2_asking.launch(
        api, ImageId=image, UserData=SECOND.encode(), InstanceInitiatedShutdownBehavior="terminate", MetadataOptions=required
    )
    assert wait(lambda: line(api, second, "kept:"), "the second guest's line") == f"kept: {first}"
    wait(lambda: ec2_asking.state(api, second) == "terminated", "the end of the second instance")
