"""GPUs by model and number, and the machine types of a cloud that have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from clouds.driver import Gpu
from clouds.errors import UsageError
from clouds.near import did_you_mean


class GpuType(NamedTuple):
    """A machine type with a number of GPUs of a `model`; its memory is in MB."""

    model: str
    gpus: int
    name: str
    cpus: int
    memory_mb: int


def choose(types: Iterable[GpuType], gpu: Gpu, cpus: int, memory_mb: int, *, cloud: str) -> GpuType:
    """Return the first type with exactly these GPUs, and at least so many processors and so much memory; else UsageError."""
    known = [one for one in types if one.model == gpu.model]
    counts = sorted({one.gpus for one in known})
    if not known:
        models = sorted({one.model for one in types})
        raise UsageError(
            f"--gpu {gpu.model}: Bakehouse knows no machine type of {cloud} with this GPU",
            next_step=did_you_mean(gpu.model, models, otherwise=f"Choose one of {', '.join(models)}, or a machine type: --type"),
        )
    if gpu.count not in counts:
        raise UsageError(
            f"--gpu {gpu}: Bakehouse knows no machine type of {cloud} with this number of GPUs",
            next_step=f"Choose another number: {', '.join(f'--gpu {gpu.model}:{count}' for count in counts)}",
        )
    for one in known:
        if one.gpus == gpu.count and one.cpus >= cpus and one.memory_mb >= memory_mb:
            return one
    raise UsageError(
        f"--gpu {gpu}: Bakehouse knows no machine type of {cloud} with this GPU and at least {cpus} processors "
        f"and {memory_mb} MB of memory",
        next_step="Give --cpus and --memory-mb smaller numbers, or choose a machine type: --type",
    )
