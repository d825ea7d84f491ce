"""What a bake reuses: where its builder starts, and what is kept of it on the way. Which of it is right: `bakery.layers`.

A cloud that keeps layers freezes the builder's disk at each checkpoint. On any other cloud the images of the recipe are all
that is kept, and each holds its steps whole: a builder starts from the newest that holds the most.
"""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Protocol

from bakery.errors import BuilderSilentError
from bakery.layers import Link, Outlook, choose, explain, fits, reached, to_forget, used_at
from bakery.order import Order, images_of
from clouds import catalogue
from clouds.capabilities import KeepsLayers, PreparesHere
from clouds.driver import Cloud, Tell
from clouds.errors import CloudError, TimedOutError
from clouds.lifecycle import settle
from launcher.cached_layers import prune

KEEP_S = 120
"""How long it may take to keep a layer, and to go on from it; multiplied by the cloud's slowness."""


class _Layering(Cloud, KeepsLayers, Protocol):
    """A cloud that keeps layers."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a builder starts: a base, a layer or an image, in words `what`, with `reached` checkpoints behind it."""

    source: str
    what: str = "the base"
    reached: int = 0
    is_image: bool = False


def find_start(cloud: Cloud, order: Order) -> tuple[Start, list[Outlook]]:
    """Return where the builder of a bake would start, and the outlook of each step."""
    if not isinstance(cloud, KeepsLayers):
        start = _start_from_image(cloud, order)
        what = f"in image {start.source}"
        absent = "no image that passed its tests ends with it"
        return start, explain(order.chain, (), order.reuse, start=start.reached, what=what, absent=absent)
    layers = cloud.layers()
    layer = choose(order.chain, layers, order.reuse, order.shape)
    start = Start(layer.id, f"the layer of {used_at(layer)}", reached(order.chain, layer.key)) if layer else Start(order.base.id)
    return start, explain(order.chain, layers, order.reuse, start=start.reached, what=f"in {start.what}")


def starts(cloud: Cloud, order: Order, tell: Tell) -> list[Start]:
    """Return where to start the builder: once, once more when that comes to nothing, and at last from the base."""
    if isinstance(cloud, KeepsLayers) and order.reuse.why:
        _forget(cloud, order, tell)
    start, outlooks = find_start(cloud, order)
    if not start.reached:
        return [start, start]
    reused = ", ".join(one.step for one in outlooks if one.reused)
    first = next(one for one in outlooks if not one.reused)
    tell(f"{order.id}: reused from {start.what}: {reused}; begins with {first.step}: {first.why}")
    return [start, start, Start(order.base.id)]


def keeper(
    cloud: Cloud, order: Order, script: Callable[[int], str], seconds: MutableMapping[str, float], tell: Tell
) -> Callable[[int], None] | None:
    """Return what is to be done at each checkpoint that the builder reaches; None on a cloud where it does not wait there.

    The layer is kept, and the builder goes on with the `script` for that many checkpoints. `seconds` learns how long all this took.
    """
    if not isinstance(cloud, KeepsLayers):
        return None

    def at_checkpoint(number: int) -> None:
        began = time.monotonic()
        try:
            _keep(cloud, order, order.chain[number - 1], tell)
            settle(cloud, cloud.go_on(order.id, script(number)), timeout_s=KEEP_S)
        except TimedOutError as error:
            raise _stuck(order, order.chain[number - 1].step, error) from error
        seconds["layers"] = seconds.get("layers", 0.0) + time.monotonic() - began

    return at_checkpoint


def _keep(cloud: _Layering, order: Order, link: Link, tell: Tell) -> None:
    """Keep a layer, unless there is an equal one; one that was wanted anew has no equal, though it has the same key.

    One that cannot be kept costs the next bake some time, and this one nothing.
    """
    is_anew = bool(order.reuse.why) and order.chain.index(link) >= order.reuse.count
    if not is_anew and any(layer.key == link.key and fits(layer, order.shape) for layer in cloud.layers()):
        return
    try:
        ticket = cloud.keep_layer(order.id, key=link.key, parent=link.parent, step=link.step, own=link.own)
        settle(cloud, ticket, timeout_s=KEEP_S)
    except CloudError as error:
        tell(f"{order.id}: the layer of {link.step} is not kept: {error.message}")


def _stuck(order: Order, step: str, error: TimedOutError) -> BuilderSilentError:
    return BuilderSilentError(
        f"the builder did not go on after step {step}: {error.message}",
        step=step,
        next_step=f"Bake again; the whole console is kept: ./inv log {order.id}",
    )


def discard(cloud: Cloud, start: Start) -> None:
    """Remove a layer from which no builder has come up, so that no other bake tries; an image is its owner's."""
    if isinstance(cloud, KeepsLayers):
        cloud.remove_layer(start.source)


def tidy(cloud: Cloud, limit_bytes: int, tell: Tell) -> None:
    """Remove the layers that were used longest ago, down to a size, and what dead processes left; failures are reported only."""
    try:
        if isinstance(cloud, PreparesHere):
            cloud.sweep()
        if isinstance(cloud, KeepsLayers):
            prune(cloud, limit_bytes)
    except CloudError as error:
        tell(f"layers that were used long ago are still there: {error.message} (to remove them: ./inv gc --layers)")


def _forget(cloud: KeepsLayers, order: Order, tell: Tell) -> None:
    left = to_forget(order.chain, cloud.layers(), order.reuse)
    while gone := [layer for layer in left if cloud.remove_layer(layer.id)]:  # each time those on which nothing lies any more
        left = [layer for layer in left if layer not in gone]
    for layer in left:
        tell(f"{order.id}: the layer of {layer.step} stays: another bake uses it")


def _start_from_image(cloud: Cloud, order: Order) -> Start:
    """Return the image of the recipe that holds the most steps, the newest of those; the base when none fits."""
    images, keys = catalogue.finished(images_of(cloud, order.recipe.name)), [link.key for link in order.chain[: order.reuse.count]]
    found = catalogue.start(images, order.recipe.name, keys, owner=order.labels["owner"], disk_gb=order.disk_gb)
    if found is None:
        return Start(order.base.id)
    image, held = found
    return Start(image.name, f"image {image.name}", held, is_image=True)
