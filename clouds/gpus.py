"""GPUs by model and number, and the machine types of a cloud that have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from clouds.driver import Gpu
from clouds.errors import InvalidError
from clouds.near import did_you_mean


class GpuType(NamedTuple):
    """A machine type with a number of GPUs of a `model`; its memory is in MB."""

    model: str
    gpus: int
    name: str
    cpus: int
    memory_mb: int


def choose(types: Iterable[GpuType], gpu: Gpu, cpus: int, memory_mb: int, *, cloud: str) -> GpuType:
    """Return the first type with exactly these GPUs, and at least so many processors and so much memory; else InvalidError."""
    known = [one for one in types if one.model == gpu.model]
    counts = sorted({one.gpus for one in known})
    if not known:
        models = sorted({one.model for one in types})
        raise InvalidError(
            f"GPU {gpu.model!r}: {cloud} has no such machine type that Bakehouse knows",
            next_step=did_you_mean(gpu.model, models, otherwise=f"Choose one of {', '.join(models)}, or a machine type: --type"),
        )
    if gpu.count not in counts:
        raise InvalidError(
            f"{gpu.count} GPUs {gpu.model!r}: {cloud} has no such machine type that Bakehouse knows",
            next_step=f"Choose another number: {', '.join(f'--gpu {gpu.model}:{count}' for count in counts)}",
        )
    for one in known:
        if one.gpus == gpu.count and one.cpus >= cpus and one.memory_mb >= memory_mb:
            return one
    raise InvalidError(
        f"{cloud} has no machine type with GPU {gpu}, {cpus} processors and {memory_mb} MB that Bakehouse knows",
        next_step="Give --cpus and --memory-mb smaller numbers, or choose a machine type: --type",
    )
