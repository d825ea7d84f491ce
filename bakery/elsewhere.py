"""A bake that another computer has started, as far as the labels of its image tell.

The order of a bake is in the ledger of the computer that started it. If the image exists, only its proof is missing, and for that
the recipe suffices, if it still makes the same image. What is lost: the log so far, and the options of that bake.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bakery.errors import RecipeError
from bakery.order import BakeOptions, Order, place_order
from bakery.recipe.recipe import load
from clouds import names
from clouds.accounts import account_key
from clouds.driver import Cloud, Kind, Resource, Tell
from clouds.errors import UsageError
from clouds.ledger import BakeNote, Ledger


def parts_of(cloud: Cloud, bake_id: str) -> list[Resource]:
    """Return the machines and images of a bake that a cloud lists."""
    return cloud.owned({"project": names.PROJECT, "bake": bake_id}, {Kind.IMAGE, Kind.MACHINE})


def from_labels(cloud: Cloud, bake_id: str, parts: Sequence[Resource], home: Path, tell: Tell) -> tuple[BakeNote, Order]:
    """Return a record and an order with which a bake can be resumed. UsageError: its labels do not suffice."""
    image = next((part for part in parts if part.kind is Kind.IMAGE), None)
    labels = (image or parts[0]).labels
    recipe, host = labels.get("recipe", ""), labels.get("client-host", "?")
    next_step = f"Resume it on {host}, or bake again: ./inv bake --recipe {recipe}"
    if image is None:
        message = f"bake {bake_id!r}: only {host} can follow its builder, since only the ledger there has the key to its progress"
        raise UsageError(message, next_step=next_step)
    if image.labels.get("role") == "image":
        raise UsageError(f"bake {bake_id!r} has ended: its image is {image.name!r}", next_step="See: ./inv images")
    try:
        order = place_order(cloud, load(recipe), BakeOptions(), home, tell)
    except RecipeError:
        raise UsageError(f"bake {bake_id!r}: its recipe {recipe!r} is not in images/ here", next_step=next_step) from None
    if order.digest != labels.get("script"):
        message = f"bake {bake_id!r}: the recipe {recipe!r} makes another image here than on {host}"
        raise UsageError(message, next_step=next_step)
    tell(f"{bake_id}: its order is on {host}; resumed by the labels of its image, without the log so far and its options")
    order = replace(order, id=bake_id, labels={**order.labels, "bake": bake_id, "owner": labels.get("owner", "")})
    note = {**order.to_json(), "labels": dict(labels)}
    return BakeNote(account_key(cloud), bake_id, note), order


def record(ledger: Ledger, note: BakeNote, parts: Sequence[Resource]) -> None:
    """Record such a bake and what it has created, as its own computer did."""
    ledger.note_bake(note.cloud, note.id, note.order)
    for part in parts:
        ledger.ask(note.cloud, part.kind, part.name, part.labels)
