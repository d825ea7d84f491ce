"""Which kept layer a bake may begin with: digests of all that has made a builder's disk, checkpoint by checkpoint. Pure.

A disk that was kept is right for a bake when everything that went into it is what the bake would do itself up to there:
base, steps in their order, names, users, texts with the files and versions in them, and the frame that runs them. A layer's
key is a digest of all that, so nothing has to be compared, and nothing that was forgotten can be reused by mistake.
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
"""How many checkpoints a builder has reached that has booted, and done nothing else."""


@dataclass(frozen=True, slots=True)
class Link:
    """A checkpoint that can be kept: `own` is the digest of that step alone, `key` of everything up to it.

    `parent` is the key of the checkpoint before, "" for the first.
    """

    step: str
    own: str
    key: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Reuse:
    """How many of a bake's checkpoints may be reused, and `why` not all of them ("" when all)."""

    count: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What would become of a step in a bake: `reused` or run, and why."""

    step: str
    reused: bool
    why: str


def chain(script: Script, base: BaseImage) -> tuple[Link, ...]:
    """Return a link for each checkpoint of a bake but the last, whose disk becomes the image."""
    links: list[Link] = []
    key = _digest(base.owner, base.id)
    for seq, (step, own) in enumerate(_owns(script.parts[:-1]), 1):
        key = _digest(key, seq, own)
        links.append(Link(step, own, key, links[-1].key if links else ""))
    return tuple(links)


def _owns(parts: Sequence[Part]) -> Iterable[tuple[str, str]]:
    """Yield each checkpoint with the digest of it alone; a builder that has booted holds the frame, and nothing of the recipe."""
    yield "boot", _digest("boot", frame("", [Part("step", "", user="somebody")], is_bake=True).text)
    for part in parts:
        yield part.name, _digest(part.name, part.user, part.text, part.as_of)


def _digest(*parts: str | int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:DIGEST_LENGTH]


def reuse(steps: Sequence[str], *, no_cache: bool = False, from_step: str = "") -> Reuse:
    """Return how much of a bake with these checkpoints its user lets us reuse. UsageError: there is no such step."""
    if from_step and from_step not in steps:
        raise UsageError(
            f"--from: {from_step!r} is no step (there are: {', '.join(steps)})",
            next_step=did_you_mean(from_step, steps, otherwise="Name one of them."),
        )
    if from_step and not (no_cache and steps.index(from_step) > BOOTED):
        return Reuse(steps.index(from_step), f"--from {from_step}")
    return Reuse(BOOTED, "--no-cache") if no_cache else Reuse(len(steps) - 1)


@dataclass(frozen=True, slots=True)
class Shape:
    """A builder's hardware. No layer on a larger disk can be used; the memory of one with other hardware cannot, its disk can."""

    disk_gb: int
    cpus: int
    memory_mb: int


def fits(layer: Layer, shape: Shape) -> bool:
    """Say whether a builder can go on from a layer, memory and all."""
    return layer.disk_gb <= shape.disk_gb and (layer.cpus, layer.memory_mb) == (shape.cpus, shape.memory_mb)


def choose(chain: Sequence[Link], layers: Iterable[Layer], reuse: Reuse, shape: Shape) -> Layer | None:
    """Return the layer to start from: that of the longest way that is done already; of equal ones that whose memory fits."""
    usable = sorted((layer for layer in layers if layer.disk_gb <= shape.disk_gb), key=lambda layer: fits(layer, shape))
    fitting = {layer.key: layer for layer in usable}
    return next((fitting[link.key] for link in reversed(chain[: reuse.count]) if link.key in fitting), None)


def reached(chain: Sequence[Link], key: str) -> int:
    """Return how many checkpoints a disk with this key has behind it: 0 for none of this chain."""
    return next((seq for seq, link in enumerate(chain, 1) if link.key == key), 0)


def to_forget(chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse) -> list[Layer]:
    """Return the layers that a bake makes anew because its user says so, and all that follow from them.

    They would be found again by the next bake, which was told nothing, and bring back what its user wanted to be rid of.
    """
    anew = {link.key for link in chain[reuse.count :]} if reuse.why else set()
    while more := {layer.key for layer in layers if layer.parent in anew} - anew:
        anew |= more
    return [layer for layer in layers if layer.key in anew]


def explain(
    chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse, *, start: int, what: str, absent: str = "no layer is kept of it"
) -> list[Outlook]:
    """Return the outlook of each step of a bake that starts from `what`, in which `start` checkpoints are reached."""
    kept = {layer.key: _shown(layer) for layer in layers}
    done = [Outlook(link.step, True, kept.get(link.key, what)) for link in chain[:start]]
    first = [Outlook(chain[start].step, False, _why_not(chain, layers, reuse, start) or absent)] if start < len(chain) else []
    rest = [Outlook(link.step, False, "a step before it runs") for link in chain[start + 1 :]]
    return [*done, *first, *rest, Outlook("seal", False, "it ends each bake")]


def _why_not(chain: Sequence[Link], layers: Sequence[Layer], reuse: Reuse, at: int) -> str:
    """Return why the first step that runs is not reused, or "" when there is nothing of it."""
    if at >= reuse.count:
        return reuse.why
    link, before = chain[at], chain[at - 1].key if at else ""
    if large := [layer for layer in layers if layer.key == link.key]:
        return f"its layer needs a disk of {large[-1].disk_gb} GB"
    others = [layer for layer in layers if (layer.step, layer.parent) == (link.step, before) and layer.own != link.own]
    return f"it has changed since the layer of {used_at(others[-1])}" if others else ""


def _shown(layer: Layer) -> str:
    return f"layer of {used_at(layer)}, {layer.size_bytes / 1e6:.0f} MB"


def used_at(layer: Layer) -> str:
    """Return when a layer was used last, as people are told."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(layer.used_at))
