"""A launch with `--gpu`, and of an image whose recipe says `gpu = true`."""

from __future__ import annotations

import pytest

from clouds.driver import Gpu, Wishes
from clouds.errors import UsageError
from clouds.ledger import Ledger
from launcher.launch import LaunchOptions, launch
from tests.fake_cloud import FakeCloud
from tests.fake_world import World
from tests.launcher.given import put_image


class GpuCloud(FakeCloud):
    """A fake cloud whose type `big-N` has N processors and a GPU."""

    grants = frozenset({"machine_type", "gpu"})

    def gpu_type(self, gpu: Gpu, cpus: int, memory_mb: int) -> str:
        if gpu.model != "t4":
            raise UsageError(f"--gpu {gpu}: none")
        return f"big-{cpus}-{memory_mb}-{gpu}"

    def has_gpu(self, machine_type: str) -> bool:
        return machine_type.startswith("big-")


@pytest.fixture
def cloud(world: World) -> GpuCloud:
    """Give a cloud with GPUs, and an image for them."""
    world.images[put_image(world, "deep", "1.4.0-7")].labels["gpu"] = "1"
    return GpuCloud(world)


def launched(cloud: FakeCloud, ledger: Ledger, wishes: Wishes = Wishes(), **options: int) -> tuple[str, list[str]]:  # noqa: B008
    """Launch a machine; return its type, and the lines about GPUs."""
    told: list[str] = []
    launch(cloud, ledger, LaunchOptions(recipe="deep", name="one", wishes=wishes, **options), tell=told.append)
    return cloud.world.machines["one"].spec.wishes.machine_type, [line for line in told if "GPU" in line]


def test_the_type_is_chosen_by_gpu_processors_and_memory(cloud: GpuCloud, ledger: Ledger) -> None:
    assert launched(cloud, ledger, Wishes(gpu=Gpu("t4", 2)), memory_mb=9000) == ("big-2-9000-t4:2", [])


def test_an_unknown_gpu_is_refused_before_the_image_is_looked_up(cloud: GpuCloud, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match="--gpu x99:1: none"):
        launched(cloud, ledger, Wishes(gpu=Gpu("x99")))
    assert cloud.calls == []


def test_a_named_type_with_a_gpu_is_taken(cloud: GpuCloud, ledger: Ledger) -> None:
    assert launched(cloud, ledger, Wishes(machine_type="big-8")) == ("big-8", [])


def test_a_named_type_without_a_gpu_is_refused_before_anything_is_created(cloud: GpuCloud, ledger: Ledger) -> None:
    with pytest.raises(UsageError, match=r"--type small-2: has no GPU, for which image 'deep-1\.4\.0-7' is made") as refused:
        launched(cloud, ledger, Wishes(machine_type="small-2"))
    assert refused.value.next_step == "Choose the GPU instead of the type: --gpu t4"
    assert cloud.world.machines == {}


def test_a_machine_without_a_gpu_says_so(cloud: GpuCloud, ledger: Ledger) -> None:
    told = "deep-1.4.0-7 is made for a GPU, but this machine has no GPU (for one with a GPU: --gpu t4)"
    assert launched(cloud, ledger) == ("", [told])


def test_on_a_cloud_without_gpus_the_flag_is_refused_and_a_machine_says_so(cloud: GpuCloud, ledger: Ledger) -> None:
    plain = FakeCloud(cloud.world)
    with pytest.raises(UsageError, match="--gpu: not supported by cloud 'fake'"):
        launched(plain, ledger, Wishes(gpu=Gpu("t4")))
    assert launched(plain, ledger)[1] == ["deep-1.4.0-7 is made for a GPU, but this machine has no GPU: fake has none"]


def test_other_images_need_no_gpu(cloud: GpuCloud, ledger: Ledger) -> None:
    del cloud.world.images["deep-1.4.0-7"].labels["gpu"]
    assert launched(cloud, ledger, Wishes(machine_type="small-2")) == ("small-2", [])
