"""GPUs on EC2: the table of instance types agrees with what EC2 says of them."""

from __future__ import annotations

import pytest

from clouds.aws import gpus
from clouds.driver import Gpu, Kind, Wishes
from clouds.errors import UsageError
from clouds.gpus import GpuType, choose
from tests.clouds.aws.stage import Stage

pytestmark = pytest.mark.server


def test_the_table_is_what_ec2_says_of_these_types() -> None:
    from moto.ec2.models.instance_types import INSTANCE_TYPES  # recorded from EC2

    for one in gpus.TYPES:
        kind = INSTANCE_TYPES[one.name]
        [gpu] = kind["GpuInfo"]["Gpus"]
        told = GpuType(
            gpu["Name"].lower(), gpu["Count"], one.name, kind["VCpuInfo"]["DefaultVCpus"], kind["MemoryInfo"]["SizeInMiB"]
        )
        assert (one, kind["Hypervisor"]) == (told, "nitro")


def test_the_smallest_type_that_fits_is_chosen() -> None:
    def chosen(gpu: Gpu, memory_mb: int = 4096) -> str:
        return choose(gpus.TYPES, gpu, 2, memory_mb, cloud="aws").name

    assert [chosen(Gpu("t4")), chosen(Gpu("a10g", 4)), chosen(Gpu("l4"), 20000)] == ["g4dn.xlarge", "g5.12xlarge", "g6.2xlarge"]
    assert [chosen(Gpu("h100")), chosen(Gpu("a100", 8))] == ["p5.4xlarge", "p4d.24xlarge"]
    with pytest.raises(UsageError) as refused:
        chosen(Gpu("v100"))
    assert "--gpu v100:8" in refused.value.next_step


def test_a_launch_with_a_gpu_has_the_type_that_has_it(stage: Stage) -> None:
    stage.bake()
    stage.launch(wishes=Wishes(gpu=Gpu("t4")))
    assert stage.error is None
    assert stage.instance()["InstanceType"] == "g4dn.xlarge"


def test_a_type_is_looked_up_to_see_whether_it_has_a_gpu(stage: Stage) -> None:
    cloud = stage.connect()
    assert [kind for kind in ("g4dn.xlarge", "t3.large", "no.such") if cloud.has_gpu(kind)] == [
        "g4dn.xlarge",
        "no.such",
    ]
    assert cloud.owned({}, {Kind.MACHINE}) == []
