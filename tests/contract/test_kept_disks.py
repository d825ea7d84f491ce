"""What every cloud does alike on which a disk can outlive its machine; name such a cloud in KEEPING."""

from dataclasses import replace

import pytest

from clouds.capabilities import KeepsDisks
from clouds.driver import Cloud, Kind, Resource
from clouds.errors import NotFoundError
from clouds.lifecycle import settle
from tests.contract.bench import Bench

KEEPING = ["gcp", pytest.param("aws", marks=pytest.mark.server)]
pytestmark = pytest.mark.parametrize("bench", KEEPING, indirect=True, scope="session")


def disks_of(cloud: Cloud, machine: str) -> list[Resource]:
    return [disk for disk in cloud.owned({"machine": machine}, {Kind.DISK}) if disk.labels.get("machine") == machine]


def boot(bench: Bench, *keep: bool) -> str:
    """Boot a machine, say whether its disk is kept, delete the machine, and return its name."""
    spec = bench.spec()
    bench.boot(replace(spec, labels={**spec.labels, "machine": spec.name}))
    assert isinstance(bench.cloud, KeepsDisks)
    for wanted in keep:
        bench.cloud.keep_disk(spec.name, keep=wanted)
    settle(bench.cloud, bench.cloud.delete(Kind.MACHINE, spec.name))
    return spec.name


def test_a_disk_that_is_kept_outlives_its_machine_with_its_labels_and_can_be_deleted(bench: Bench) -> None:
    machine = boot(bench, True)
    [disk] = disks_of(bench.cloud, machine)
    assert disk.size_bytes == bench.spec().disk_gb * 2**30
    assert disk.type
    assert disk.zone
    assert bench.labels.items() <= disk.labels.items()
    settle(bench.cloud, bench.cloud.delete(Kind.DISK, disk.name))
    assert disks_of(bench.cloud, machine) == []


@pytest.mark.parametrize("keep", [(), (True, False)])
def test_a_disk_that_is_not_kept_goes_with_its_machine(bench: Bench, keep: tuple[bool, ...]) -> None:
    assert disks_of(bench.cloud, boot(bench, *keep)) == []


def test_the_disk_of_an_absent_machine_cannot_be_kept(bench: Bench) -> None:
    assert isinstance(bench.cloud, KeepsDisks)
    with pytest.raises(NotFoundError, match="contract-nosuch"):
        bench.cloud.keep_disk("contract-nosuch", keep=True)
