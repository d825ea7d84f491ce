"""The size of cached layers, and their removal, least recently used first."""

from __future__ import annotations

import os
from collections.abc import Iterable

from clouds.capabilities import KeepsLayers, Layer
from clouds.errors import UsageError
from launcher.command.flags import gigabytes

GB = 10**9
LIMIT = "BAKEHOUSE_LAYERS_GB"
"""The environment variable that limits the size of cached layers after a bake, in GB."""
LIMIT_GB = 20.0


def limit_bytes() -> int:
    """Return the limit for cached layers after a bake, in bytes. UsageError: the environment variable is not a size."""
    typed = os.environ.get(LIMIT)
    try:
        return int((gigabytes(typed) if typed else LIMIT_GB) * GB)
    except ValueError as error:
        raise UsageError(f"{LIMIT}: {typed!r} {error}") from None


def size_bytes(layers: Iterable[Layer]) -> int:
    """Return the total size of layers."""
    return sum(layer.size_bytes for layer in layers)


def prune(cloud: KeepsLayers, keep_bytes: int) -> list[Layer]:
    """Remove the least recently used layers until at most `keep_bytes` remain; return the removed ones.

    Layers that a builder or another layer needs are kept, so a layer is removed only after those on top of it.
    """
    removed: list[Layer] = []
    left = cloud.layers()
    while size_bytes(left) > keep_bytes:
        layer = next((layer for layer in left if cloud.remove_layer(layer.id)), None)
        if layer is None:
            break
        left.remove(layer)
        removed.append(layer)
    return removed
