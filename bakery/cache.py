"""The cache of a bake: where its builder starts, and which layers to keep. `bakery.layers` decides which layers are valid.

A cloud that supports layers saves the builder's disk at each checkpoint. On other clouds only the images of the recipe are reused:
a builder starts from the newest of those that contain the most steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Protocol

from bakery.errors import BuilderSilentError
from bakery.layers import Link, Outlook, choose, explain, fits, reached, to_forget, used_at
from bakery.order import Order
from clouds import catalogue
from clouds.capabilities import KeepsLayers, PreparesHere
from clouds.driver import Cloud, Resource, Tell
from clouds.errors import CloudError, TimedOutError
from clouds.lifecycle import settle
from launcher.cached_layers import prune

KEEP_S = 120
"""How long it may take to save a layer, and to continue after it; multiplied by the cloud's slowness."""


class _Layering(Cloud, KeepsLayers, Protocol):
    """A cloud that supports layers."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a builder starts: a base, a layer or an image, described by `what`, with `reached` checkpoints done."""

    source: str
    what: str = "the base"
    reached: int = 0
    is_image: bool = False


def find_start(cloud: Cloud, order: Order, listed: Iterable[Resource]) -> tuple[Start, list[Outlook]]:
    """Return where the builder of a bake would start, and for each step whether it would be reused.

    `listed` are the images of its recipe.
    """
    if not isinstance(cloud, KeepsLayers):
        start = _start_from_image(cloud, order, listed)
        what = f"in image {start.source}"
        absent = "no tested image ends with it"
        return start, explain(order.chain, (), order.reuse, start=start.reached, what=what, absent=absent)
    layers = cloud.layers()
    layer = choose(order.chain, layers, order.reuse, order.shape)
    start = (
        Start(layer.id, f"the layer last used {used_at(layer)}", reached(order.chain, layer.key)) if layer else Start(order.base.id)
    )
    return start, explain(order.chain, layers, order.reuse, start=start.reached, what=f"in {start.what}")


def starts(cloud: Cloud, order: Order, listed: Iterable[Resource], tell: Tell) -> list[Start]:
    """Return where to start the builder, in order of attempts: twice from the best start, then from the base.

    `listed` are the images of its recipe.
    """
    if isinstance(cloud, KeepsLayers) and order.reuse.why:
        _forget(cloud, order, tell)
    start, outlooks = find_start(cloud, order, listed)
    if not start.reached:
        return [start, start]
    reused = ", ".join(one.step for one in outlooks if one.reused)
    first = next(one for one in outlooks if not one.reused)
    tell(f"{order.id}: reusing {start.what}: {reused}; starting at step {first.step!r}: {first.why}")
    return [start, start, Start(order.base.id)]


def keeper(
    cloud: Cloud, order: Order, script: Callable[[int], str], seconds: MutableMapping[str, float], tell: Tell
) -> Callable[[int], None] | None:
    """Return the function to call at each checkpoint; None on a cloud without layers, where the builder does not wait.

    It saves the layer, and lets the builder continue with `script(number of checkpoints done)`. Adds the time taken to `seconds`.
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
    """Save a layer, unless there is one with the same key and shape; steps that the user wants to repeat are always saved.

    If it cannot be saved, this bake continues, and the next one takes longer.
    """
    is_repeated = bool(order.reuse.why) and order.chain.index(link) >= order.reuse.count
    if not is_repeated and any(layer.key == link.key and fits(layer, order.shape) for layer in cloud.layers()):
        return
    try:
        ticket = cloud.keep_layer(order.id, key=link.key, parent=link.parent, step=link.step, own=link.own)
        settle(cloud, ticket, timeout_s=KEEP_S)
    except CloudError as error:
        tell(f"{order.id}: could not save the layer of step {link.step!r}: {error.message}")


def _stuck(order: Order, step: str, error: TimedOutError) -> BuilderSilentError:
    return BuilderSilentError(
        f"the builder did not continue after step {step!r}: {error.message}",
        step=step,
        next_step=f"Bake again; for the whole console see: ./inv log {order.id}",
    )


def discard(cloud: Cloud, start: Start) -> None:
    """Remove a layer from which no builder could start, so that no other bake tries it; images are kept."""
    if isinstance(cloud, KeepsLayers):
        cloud.remove_layer(start.source)


def tidy(cloud: Cloud, limit_bytes: int, tell: Tell) -> None:
    """Remove least recently used layers, down to a size, and leftovers of dead processes; failures are only reported."""
    try:
        if isinstance(cloud, PreparesHere):
            cloud.sweep()
        if isinstance(cloud, KeepsLayers):
            prune(cloud, limit_bytes)
    except CloudError as error:
        tell(f"could not remove old layers: {error.message} (to remove them: ./inv gc --layers)")


def _forget(cloud: KeepsLayers, order: Order, tell: Tell) -> None:
    left = to_forget(order.chain, cloud.layers(), order.reuse)
    while gone := [layer for layer in left if cloud.remove_layer(layer.id)]:  # each pass removes those without dependents
        left = [layer for layer in left if layer not in gone]
    for layer in left:
        tell(f"{order.id}: the layer of step {layer.step!r} is kept: another bake uses it")


def _start_from_image(cloud: Cloud, order: Order, listed: Iterable[Resource]) -> Start:
    """Return the newest of the recipe's images that contain the most steps; the base if none fits."""
    images = catalogue.startable(cloud, catalogue.finished(listed))
    keys = [link.key for link in order.chain[: order.reuse.count]]
    found = catalogue.start(images, order.recipe.name, keys, owner=order.labels["owner"], disk_gb=order.disk_gb)
    if found is None:
        return Start(order.base.id)
    image, held = found
    return Start(image.name, f"image {image.name}", held, is_image=True)
