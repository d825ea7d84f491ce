"""GPUs on Compute Engine: which machine type has them, and what else their machine needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from clouds.driver import Gpu, Wishes
from clouds.errors import UsageError
from clouds.gcp import gpus
from clouds.gpus import choose
from launcher.launch import LaunchOptions
from tests.clouds.gcp.stage import NewStage, launch_tiny
from tests.clouds.gcp.test_instances import SPEC, body


def chosen(gpu: Gpu, cpus: int = 2, memory_mb: int = 4096) -> str:
    return choose(gpus.TYPES, gpu, cpus, memory_mb, cloud="gcp").name


def asked(gpu: Gpu) -> dict[str, Any]:
    """Return the request for a machine with GPUs."""
    return body(replace(SPEC, wishes=Wishes(gpu=gpu, machine_type=chosen(gpu))))


def test_the_smallest_type_that_fits_is_chosen() -> None:
    assert [chosen(Gpu("l4")), chosen(Gpu("l4"), memory_mb=33000), chosen(Gpu("l4", 8))] == [
        "g2-standard-4",
        "g2-standard-12",
        "g2-standard-96",
    ]
    assert [chosen(Gpu("a100")), chosen(Gpu("h100", 8))] == ["a2-highgpu-1g", "a3-highgpu-8g"]
    assert [chosen(Gpu("t4")), chosen(Gpu("v100", 2), memory_mb=16000)] == ["n1-standard-4", "n1-highmem-4"]


@pytest.mark.parametrize(
    ("gpu", "cpus", "said", "next_step"),
    [
        (Gpu("l40"), 2, "--gpu l40: Bakehouse knows no machine type of gcp with this GPU", "l4"),
        (Gpu("warp9"), 2, "--gpu warp9: ", "a100, h100, l4, p100, t4, v100"),
        (
            Gpu("t4", 3),
            2,
            "--gpu t4:3: Bakehouse knows no machine type of gcp with this number of GPUs",
            "--gpu t4:1, --gpu t4:2, --gpu t4:4",
        ),
        (Gpu("v100"), 16, "--gpu v100:1: .* at least 16 processors", "smaller numbers"),
    ],
)
def test_what_no_type_has_is_refused_with_what_there_is(gpu: Gpu, cpus: int, said: str, next_step: str) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        chosen(gpu, cpus)
    assert next_step in refused.value.next_step


def test_gpus_are_attached_to_an_n1_type_only_since_others_have_their_own() -> None:
    kind = "zones/us-central1-a/acceleratorTypes/nvidia-tesla-t4"
    assert asked(Gpu("t4", 2))["guestAccelerators"] == [{"acceleratorCount": 2, "acceleratorType": kind}]
    assert "guestAccelerators" not in asked(Gpu("l4"))


@pytest.mark.parametrize("wishes", [Wishes(machine_type="g2-standard-4"), Wishes(gpu=Gpu("t4"), machine_type="n1-standard-4")])
def test_a_machine_with_gpus_is_not_migrated_and_loads_a_driver_without_google_s_signature(wishes: Wishes) -> None:
    found = body(replace(SPEC, wishes=wishes))
    assert found["scheduling"]["onHostMaintenance"] == "TERMINATE"
    assert not found["shieldedInstanceConfig"].get("enableSecureBoot")
    assert "onHostMaintenance" not in body()["scheduling"]
    assert body()["shieldedInstanceConfig"]["enableSecureBoot"]


@pytest.mark.server
@pytest.mark.parametrize(("gpu", "kind"), [(Gpu("t4"), "n1-standard-4"), (Gpu("l4"), "g2-standard-4")])
def test_a_launch_with_gpus_is_accepted(new_stage: NewStage, gpu: Gpu, kind: str) -> None:
    stage = new_stage("launch")
    options = LaunchOptions(recipe="tiny", name="mine", wishes=Wishes(gpu=gpu))
    stage.play(lambda cloud, home: launch_tiny(cloud, home, options=options))
    assert stage.error is None
    assert stage.server.instance("mine")["machineType"].endswith(f"/{kind}")


@pytest.mark.server
def test_a_type_is_looked_up_to_see_whether_it_has_gpus(new_stage: NewStage) -> None:
    cloud = new_stage("launch").connect()
    kinds = ("g2-standard-4", "e2-small", "n1-standard-4", "n2-custom-4-8192", "no-such-1")
    assert [kind for kind in kinds if cloud.has_gpu(kind)] == ["g2-standard-4", "no-such-1"]
