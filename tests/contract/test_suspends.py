"""What every cloud does alike that can keep the memory of a machine that is off; name such a cloud in SUSPENDING."""

import pytest

from clouds.capabilities import Suspends
from clouds.driver import BootSpec, Cloud, Kind, State
from clouds.errors import NotFoundError
from clouds.lifecycle import is_running, settle
from launcher.power import SUSPEND_S
from tests.contract.bench import Bench

SUSPENDING = ["faraway", "keeping", "gcp", pytest.param("local", marks=pytest.mark.vm)]
pytestmark = pytest.mark.parametrize("bench", SUSPENDING, indirect=True, scope="package")


@pytest.fixture(scope="module")
def suspended(bench: Bench, running: BootSpec) -> BootSpec:
    """Give a machine that has run and was suspended; the last test starts it again."""
    assert isinstance(bench.cloud, Suspends)
    settle(bench.cloud, bench.cloud.suspend(running.name), timeout_s=SUSPEND_S)
    return running


def test_machine_that_was_suspended_is_off_and_keeps_its_labels(cloud: Cloud, suspended: BootSpec) -> None:
    found = cloud.find(Kind.MACHINE, suspended.name)
    assert found
    assert found.state is State.SUSPENDED
    assert suspended.labels.items() <= found.labels.items()
    assert not is_running(cloud, suspended.name)


def test_suspended_machine_that_is_started_goes_on_and_boots_no_second_time(cloud: Cloud, suspended: BootSpec) -> None:
    before = cloud.console(suspended.name)
    settle(cloud, cloud.start(suspended.name, deadline_s=suspended.deadline_s, facts={}), timeout_s=SUSPEND_S)
    assert is_running(cloud, suspended.name)
    after = cloud.console(suspended.name).text
    assert after.startswith(before.text)
    assert after.count("Linux version") <= 1  # a quiet kernel does not say so


def test_suspending_what_is_not_there_is_not_found(bench: Bench) -> None:
    assert isinstance(bench.cloud, Suspends)
    with pytest.raises(NotFoundError, match="contract-nosuch"):
        settle(bench.cloud, bench.cloud.suspend("contract-nosuch"))
