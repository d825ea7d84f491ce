"""Keep an image that is not sealed, or that fails its tests, as a candidate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bakery.errors import NotSealedError, TestsFailedError
from bakery.order import Order
from bakery.record import Record
from clouds import names
from clouds.capabilities import KeepsFiles
from clouds.driver import Cloud, Kind
from clouds.errors import BakehouseError
from clouds.undo import Undo

SEALED = {names.FINDINGS: ""}
"""The label that removes the findings of an earlier bake from its image, once a search has found no more."""


@contextmanager
def keep_candidate(cloud: Cloud, order: Order, record: Record, image: str, undo: Undo, *, is_held: bool) -> Iterator[None]:
    """Keep an image that is not sealed, or that fails on a fresh boot, as a candidate; the former cannot be launched.

    `is_held`: an earlier bake has kept it already, since it was not sealed.
    """
    try:
        yield
    except NotSealedError as error:
        findings = f"{error.findings}{'-final' if error.is_final else ''}"
        cloud.label(Kind.IMAGE, image, {"role": "image", names.FINDINGS: findings})
        undo.release()
        if isinstance(cloud, KeepsFiles):
            with suppress(BakehouseError, OSError):  # do not hide what was found
                cloud.attach(image, record.files())
        raise
    except TestsFailedError as error:
        was_searched = record.packages.exists()  # in a cloud whose disks cannot be read, the machine may not have started
        cloud.label(Kind.IMAGE, image, {"role": "image", **(SEALED if is_held and was_searched else {})})
        undo.release()
        recipe = order.recipe.name
        version = image.removeprefix(f"{recipe}-")
        launch = f"./inv launch --recipe {recipe} --version {version}"
        error.next_step = f"The image is kept as a candidate: {launch}; for the log see: ./inv log {order.id}"
        raise
