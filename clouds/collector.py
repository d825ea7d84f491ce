"""Load large libraries without Python's garbage collector, which would look through all of their objects again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def off() -> Iterator[None]:
    """Load without garbage collection, and exempt the loaded objects from it permanently.

    Cloud libraries have so many classes that the last collection, at exit, would take half as long as loading them.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
