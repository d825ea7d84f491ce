"""Record a running bake in the ledger, so that another process knows about it if this one is killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bakery.order import Order
from clouds.accounts import account_key
from clouds.driver import Cloud, Position
from clouds.errors import BakehouseError
from clouds.ledger import Ledger


@contextmanager
def noted(cloud: Cloud, ledger: Ledger, order: Order) -> Iterator[None]:
    """Record a bake before its first request, and remove the record when it ends, successfully or not."""
    account = account_key(cloud)
    ledger.note_bake(account, order.id, order.to_json())
    try:
        yield
    finally:
        with suppress(BakehouseError):  # do not hide how the bake ended; gc removes the record
            ledger.forget_bake(account, order.id)


def positions(cloud: Cloud, ledger: Ledger, order: Order) -> Callable[[Position, str, Position, int], None]:
    """Return the function that records how far a builder's output was read (see `Watch.on_position`)."""
    account = account_key(cloud)

    def note(console_at: Position, console_rest: str, log_at: Position, reached: int) -> None:
        at = {"console_at": console_at, "log_at": log_at}
        ledger.note_position(account, order.id, **at, console_rest=console_rest, reached=reached)

    return note
