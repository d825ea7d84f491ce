"""The machines of the local cloud; no QEMU runs here."""

import pytest

from clouds.errors import ConflictError
from clouds.local.machines import Machines
from clouds.local.store import Store
from clouds.local.vm.accelerator import TCG
from tests.clouds.local.small import needs_tools, order

pytestmark = needs_tools


def test_later_of_two_launches_of_a_name_learns_how_to_continue(store: Store) -> None:
    machines = Machines(store)
    machines.prepare(order("one", token="first"))
    with pytest.raises(ConflictError, match=r"^machine 'one' already exists on local$") as refused:
        machines.create(order("one", token="second"), TCG)
    assert refused.value.next_step == "Choose another --name, or delete it: ./inv delete one"
