"""The layers that bakes have kept: how much they occupy, and which of them go first."""

from __future__ import annotations

import os
from collections.abc import Iterable

from clouds.capabilities import KeepsLayers, Layer
from clouds.errors import UsageError
from launcher.command.flags import gigabytes

GB = 10**9
LIMIT = "BAKEHOUSE_LAYERS_GB"
"""The environment variable that says how much layers may occupy after a bake, in GB."""
LIMIT_GB = 20.0


def limit_bytes() -> int:
    """Return how much layers may occupy after a bake. UsageError: what the environment says is no size."""
    typed = os.environ.get(LIMIT)
    try:
        return int((gigabytes(typed) if typed else LIMIT_GB) * GB)
    except ValueError as error:
        raise UsageError(f"{LIMIT}: {typed!r} {error}") from None


def size_bytes(layers: Iterable[Layer]) -> int:
    """Return what layers occupy in all."""
    return sum(layer.size_bytes for layer in layers)


def prune(cloud: KeepsLayers, keep_bytes: int) -> list[Layer]:
    """Remove layers until no more than this is left, those first that were used longest ago; return what went.

    What a builder or another layer needs stays. A layer that others lie on goes after them, however long ago it was used.
    """
    gone: list[Layer] = []
    left = cloud.layers()
    while size_bytes(left) > keep_bytes:
        removed = next((layer for layer in left if cloud.remove_layer(layer.id)), None)
        if removed is None:
            break
        left.remove(removed)
        gone.append(removed)
    return gone
