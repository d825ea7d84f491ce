"""A suspension whose client was killed before QEMU had ended; a process that calls itself QEMU stands for it."""

import subprocess
from collections.abc import Iterator

import pytest

from clouds.driver import Kind, State
from clouds.errors import CloudError
from clouds.local import qemu
from clouds.local.accelerator import TCG
from clouds.local.driver import LocalCloud
from clouds.local.machines import Machines
from clouds.local.store import Store
from clouds.local.waking import SUSPENDED, open_ports
from clouds.waiter import until
from tests.clouds.local.small import needs_tools, order
from tests.clouds.local.test_sockets import GREETING, serving, status

pytestmark = needs_tools


@pytest.fixture
def machines(store: Store) -> Iterator[Machines]:
    """Give a store with machine `one`, whose memory is written and whose QEMU has not ended yet."""
    machines = Machines(store)
    machines.prepare(order("one"))
    folder = store.machine("one")
    (folder / SUSPENDED).mkdir()
    with subprocess.Popen(["bash", "-c", f"exec -a {qemu.PROGRAM} sleep 60"], cwd=folder) as process:
        try:
            until(lambda: qemu.processes(folder), what="process", timeout_s=10, poll_s=0.01)
            yield machines
        finally:
            process.kill()


@pytest.mark.usefixtures("machines")
def test_its_state_is_suspended(cloud: LocalCloud) -> None:
    found = cloud.find(Kind.MACHINE, "one")
    assert found and found.state is State.SUSPENDED


def test_start_lets_it_go_on_and_discards_the_memory_that_its_disk_will_not_fit(machines: Machines) -> None:
    folder = machines.store.machine("one")
    with serving(folder, qemu.QMP, status("paused"), greeting=GREETING) as asked:
        machines.start("one", TCG, deadline_s=60, facts={})
    assert "cont" in [message["execute"] for message in asked]
    assert not (folder / SUSPENDED).exists()


def test_ports_that_qemu_refuses_whatever_they_are_are_told_with_its_words(machines: Machines) -> None:
    folder = machines.store.machine("one")
    with (
        serving(folder, qemu.QMP, lambda _: {"return": "invalid host forwarding rule"}, greeting=GREETING),
        pytest.raises(CloudError, match="invalid host") as raised,
    ):
        open_ports(folder, {"22": 0})
    assert "Run the command again" in raised.value.next_step
