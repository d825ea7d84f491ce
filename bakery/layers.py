"""Decide which cached layer a bake may start from, with digests of everything that went into a builder's disk. Pure functions.

A layer is valid for a bake if the bake would do exactly the same up to that checkpoint: base, steps in order, names, users, texts
including files and versions, and the frame of the script. A layer's key is a digest of all that, so there is no separate
comparison that could miss something.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bakery.script.render import DIGEST_LENGTH, Part, Script, frame
from clouds.capabilities import Layer
from clouds.driver import BaseImage
from clouds.errors import UsageError
from clouds.near import did_you_mean

BOOTED = 1
"""The number of checkpoints reached after booting alone."""


@dataclass(frozen=True, slots=True)
class Link:
    """A checkpoint that can be cached: `own` is the digest of this step alone, `key` that of everything up to it.

    `parent` is the key of the previous checkpoint, "" for the first.
    """

    step: str
    own: str
    key: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Reuse:
    """How many of a bake's checkpoints may be reused, and `why` not all of them ("" if all)."""

    count: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """Whether a bake would reuse or run a step, and why."""

    step: str
    reused: bool
    why: str


def chain(script: Script, base: BaseImage) -> tuple[Link, ...]:
    """Return a link for each checkpoint of a bake except the last, whose disk becomes the image."""
    links: list[Link] = []
    key = _digest(base.owner, base.id)
    for seq, (step, own) in enumerate(_own_digests(script.parts[:-1], has_packages=bool(base.base.packages)), 1):
        key = _digest(key, seq, own)
        links.append(Link(step, own, key, links[-1].key if links else ""))
    return tuple(links)


def _own_digests(parts: Sequence[Part], *, has_packages: bool) -> Iterable[tuple[str, str]]:
    """Yield each checkpoint with its own digest; that of `boot` covers the frame, and nothing of the recipe.

    `has_packages`: the base contains the packages of steps that are `in_base`, so its id stands for their versions.
    """
    yield "boot", _digest("boot", frame("", [Part("step", "", user="somebody")], is_bake=True).text)
    for part in parts:
        yield part.name, _digest(part.name, part.user, part.text, "" if has_packages and part.in_base else part.as_of)


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def reuse(steps: Sequence[str], *, no_cache: bool = False, from_step: str = "") -> Reuse:
    """Return how many of these checkpoints the user permits to reuse. UsageError: no such step."""
    if from_step and from_step not in steps:
        raise UsageError(
            f"--from: unknown step {from_step!r} (known: {', '.join(steps)})",
            next_step=did_you_mean(from_step, steps, otherwise="Choose one of them."),
        )
    if from_step and not (no_cache and steps.index(from_step) > BOOTED):
        return Reuse(steps.index(from_step), f"--from {from_step}")
    return Reuse(BOOTED, "--no-cache") if no_cache else Reuse(len(steps) - 1)


@dataclass(frozen=True, slots=True)
class Shape:
    """A builder's hardware. Layers with a larger disk cannot be used; of layers with other processors or memory only the disk."""

    disk_gb: int
    cpus: int
    memory_mb: int


def fits(layer: Layer, shape: Shape) -> bool:
    """Return whether a builder can be restored from a layer, including its memory."""
    return layer.disk_gb <= shape.disk_gb and (layer.cpus, layer.memory_mb) == (shape.cpus, shape.memory_mb)


def choose(chain: Sequence[Link], layers: Iterable[Layer], reuse: Reuse, shape: Shape) -> Layer | None:
    """Return the layer with the most steps done; of several, one whose memory fits."""
    usable = sorted((layer for layer in layers if layer.disk_gb <= shape.disk_gb), key=lambda layer: fits(layer, shape))
    fitting = {layer.key: layer for layer in usable}
    return next((fitting[link.key] for link in reversed(chain[: reuse.count]) if link.key in fitting), None)


def reached(chain: Sequence[Link], key: str) -> int:
    """Return how many checkpoints a disk with this key has reached: 0 if it is not from this chain."""
    return next((seq for seq, link in enumerate(chain, 1) if link.key == key), 0)


def to_forget(chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse) -> list[Layer]:
    """Return the layers of steps that the user wants to repeat, and all layers on top of them.

    Otherwise the next bake would reuse what the user wanted to replace.
    """
    repeated = {link.key for link in chain[reuse.count :]} if reuse.why else set()
    while more := {layer.key for layer in layers if layer.parent in repeated} - repeated:
        repeated |= more
    return [layer for layer in layers if layer.key in repeated]


def explain(
    chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse, *, start: int, what: str, absent: str = "no cached layer"
) -> list[Outlook]:
    """Return the outlook of each step of a bake that starts from `what`, with `start` checkpoints reached."""
    kept = {layer.key: _shown(layer) for layer in layers}
    done = [Outlook(link.step, True, kept.get(link.key, what)) for link in chain[:start]]
    first = [Outlook(chain[start].step, False, _why_not(chain, layers, reuse, start) or absent)] if start < len(chain) else []
    rest = [Outlook(link.step, False, "an earlier step runs") for link in chain[start + 1 :]]
    return [*done, *first, *rest, Outlook("seal", False, "last step of every bake")]


def _why_not(chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse, at: int) -> str:
    """Return why the first step that runs is not reused, or "" if there is no layer of it."""
    if at >= reuse.count:
        return reuse.why
    link, before = chain[at], chain[at - 1].key if at else ""
    if large := [layer for layer in layers if layer.key == link.key]:
        return f"its layer needs a disk of {large[-1].disk_gb} GB"
    others = [layer for layer in layers if (layer.step, layer.parent) == (link.step, before) and layer.own != link.own]
    return f"it differs from the layer last used {used_at(others[-1])}" if others else ""  # which another recipe may have made


def _shown(layer: Layer) -> str:
    return f"layer last used {used_at(layer)}, {layer.size_bytes / 1e6:.0f} MB"


def used_at(layer: Layer) -> str:
    """Return the local time of a layer's last use, as text."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(layer.used_at))
