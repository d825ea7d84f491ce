"""The GPUs of a machine: its type, and what to say about a machine without them whose image uses them."""

from __future__ import annotations

from dataclasses import replace

from clouds.capabilities import OffersGpus
from clouds.driver import Cloud, Tell, Wishes
from clouds.errors import UsageError
from launcher.images import ImageView

LABEL = {"gpu": "1"}
"""The label of an image whose recipe says `gpu = true`."""


def with_gpu(cloud: Cloud, wishes: Wishes, image: ImageView, *, cpus: int, memory_mb: int, tell: Tell) -> Wishes:
    """Return the options of a machine with the type that has the wished GPUs.

    UsageError: the cloud has no such type; or the image uses a GPU, and the type that the user names has none. A machine of such
    an image without a named type is launched, and `tell` receives a line.
    """
    if wishes.gpu and isinstance(cloud, OffersGpus):
        return replace(wishes, machine_type=cloud.gpu_type(wishes.gpu, cpus, memory_mb))
    if not LABEL.items() <= image.labels.items():
        return wishes
    if not wishes.machine_type:
        way = " (for one with a GPU: --gpu t4)" if isinstance(cloud, OffersGpus) else f": {cloud.name} has none"
        tell(f"{image.name} is made for a GPU, but this machine has no GPU{way}")
    elif isinstance(cloud, OffersGpus) and not cloud.has_gpu(wishes.machine_type):
        raise UsageError(
            f"--type {wishes.machine_type}: has no GPU, for which image {image.name!r} is made",
            next_step="Choose the GPU instead of the type: --gpu t4",
        )
    return wishes
