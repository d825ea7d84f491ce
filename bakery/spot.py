"""Builders on spot capacity, which the cloud may reclaim at any time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bakery.errors import BakeError, BuilderDiedError
from bakery.order import Order
from clouds.capabilities import ImagesRunningSpot, ReclaimsSpot
from clouds.driver import Cloud
from clouds.errors import CapacityError, CloudError, ConflictError, QuotaError

NEXT_STEP = "Spot capacity can be reclaimed at any time: bake again, in another --zone, or without --spot."
_OTHER_CAUSES = (CapacityError, ConflictError, QuotaError)


def stops_builder(cloud: Cloud, order: Order) -> bool:
    """Return whether a builder is stopped before its image is created."""
    return not (order.spot and isinstance(cloud, ImagesRunningSpot))


@contextmanager
def explaining_reclaim(cloud: Cloud, order: Order) -> Iterator[None]:
    """Say of an error that the cloud has reclaimed the builder's spot capacity, or may have if it does not report that."""
    try:
        yield
    except (BakeError, CloudError) as error:
        if not order.spot or isinstance(error, _OTHER_CAUSES):
            raise
        if isinstance(cloud, ReclaimsSpot):
            if _was_reclaimed(cloud, order.id):
                error.message = f"{cloud.name} has reclaimed the spot capacity of the builder: {error.message}"
                error.next_step = NEXT_STEP
        elif isinstance(error, BuilderDiedError):
            error.next_step = NEXT_STEP
        raise


def _was_reclaimed(cloud: ReclaimsSpot, builder: str) -> bool:
    try:
        return cloud.was_reclaimed(builder)
    except CloudError:  # the failure itself counts
        return False
