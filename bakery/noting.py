"""Record a running bake in the ledger, so that another process knows about it if this one is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bakery.order import Order
from clouds.accounts import account_key
from clouds.driver import Cloud, Position
from clouds.errors import BakehouseError
from clouds.ledger import Ledger

HELD = "held"
"""The key of a record for the image that a bake only checks again."""


@contextmanager
def noted(cloud: Cloud, ledger: Ledger, order: Order, held: str = "") -> Iterator[None]:
    """Record a bake before its first request, and remove the record when it ends, successfully or not.

    `held` is the name of the image that it only checks again.
    """
    ledger.note_bake(account_key(cloud), order.id, order.to_json() | {HELD: held})
    with forgotten(cloud, ledger, order):
        yield


@contextmanager
def forgotten(cloud: Cloud, ledger: Ledger, order: Order) -> Iterator[None]:
    """Remove the record of a bake when it ends, successfully or not."""
    try:
        yield
    finally:
        with suppress(BakehouseError):  # do not hide how the bake ended; gc removes the record
            ledger.forget_bake(account_key(cloud), order.id)


def halting(cloud: Cloud, ledger: Ledger, order: Order, at_checkpoint: Callable[[int], None]) -> Callable[[int], None]:
    """Return the function for a builder that waits at a checkpoint: meanwhile no position is recorded from which to follow it."""

    def halt(number: int) -> None:
        ledger.forget_position(account_key(cloud), order.id)
        at_checkpoint(number)

    return halt


def positions(cloud: Cloud, ledger: Ledger, order: Order) -> Callable[[Position, str, Position, int], None]:
    """Return the function that records how far a builder's output was read (see `Watch.on_position`)."""
    account = account_key(cloud)

    def note(console_at: Position, console_rest: str, log_at: Position, reached: int) -> None:
        at = {"console_at": console_at, "log_at": log_at}
        ledger.note_position(account, order.id, **at, console_rest=console_rest, reached=reached)

    return note
