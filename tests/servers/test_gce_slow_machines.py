"""The Compute Engine server: machines that take their time, as real ones do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.asking import ZONE, ask, get, machine
from tests.servers.gce import Gce, serve
from tests.servers.vm import Done, ScriptedVms, Vm, VmError


class SlowVms(ScriptedVms):
    """Machines that are on when the test says so, or never."""

    def __init__(self) -> None:
        super().__init__()
        self.is_on = False
        self.error = ""

    def start(self, vm: Vm) -> Done:
        super().start(vm)
        return self._done

    def _done(self) -> bool:
        if self.error:
            raise VmError(self.error)
        return self.is_on


@pytest.fixture
def slow() -> SlowVms:
    return SlowVms()


@pytest.fixture
def gce(slow: SlowVms) -> Iterator[Gce]:
    with serve(vms=slow, operation_s=0.001) as server:
        yield server
        assert not server.crashes


def _begin(gce: Gce) -> str:
    operation = ask(gce, "POST", f"{ZONE}/instances", machine("one")).body
    gce.advance(60)
    return f"{ZONE}/operations/{operation['name']}"


def test_an_operation_runs_until_its_machine_is_on(gce: Gce, slow: SlowVms) -> None:
    operation = _begin(gce)
    assert (get(gce, operation)["status"], gce.instance("one")["status"]) == ("RUNNING", "STAGING")
    slow.is_on = True
    assert (get(gce, operation)["status"], gce.instance("one")["status"]) == ("DONE", "RUNNING")


def test_a_machine_that_fails_late_fails_its_operation(gce: Gce, slow: SlowVms) -> None:
    operation = _begin(gce)
    slow.error = "it died"
    assert get(gce, operation)["error"]["errors"][0]["message"] == "Internal error: it died"
    assert gce.inventory() == []
