"""What the stages of one bake share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from bakery.events import Note, OnEvent, StepEnded, StepStarted
from bakery.order import Order
from bakery.record import Record
from clouds.catalogue import Image
from clouds.driver import Cloud, Resource
from clouds.ledger import BakeNote, Ledger


@dataclass(frozen=True, slots=True)
class Left:
    """What the dead client of a bake has left: the note of its progress, and a builder or an image, if there is one."""

    note: BakeNote
    builder: Resource | None = None
    image: Resource | None = None


@dataclass(slots=True)
class Run:
    """The state that the stages of one bake share.

    `listed` are the images of its recipe, as they were before it; `held` is one of them that was not sealed, and is checked again.
    `left` is set if the bake is resumed.
    """

    cloud: Cloud
    ledger: Ledger
    order: Order
    record: Record
    on_event: OnEvent
    listed: Sequence[Resource] = ()
    held: Image | None = None
    left: Left | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def tell(self, line: str) -> None:
        """Report a line of progress."""
        self.on_event(Note(line))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report and time a stage of the bake, which is not a step of the script."""
        self.on_event(StepStarted(name, 0, 0))
        began, ok, interrupted = time.monotonic(), False, False
        try:
            yield
            ok = True
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            self.seconds[name] = time.monotonic() - began
            self.on_event(StepEnded(name, self.seconds[name], ok=ok, interrupted=interrupted))
