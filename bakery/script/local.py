"""Where a builder gets the packages that are beside a recipe, and how they are installed."""

from __future__ import annotations

import posixpath
from dataclasses import astuple, dataclass
from urllib.parse import quote

from bakery.script.pins import Pin

SOURCES = "/opt/notebook/src"
"""The folder of editable packages in an image, as for pip (pip.pypa.io/en/stable/topics/vcs-support)."""
TEMPORARY = "/opt/notebook/.local"
"""The folder of the other packages beside a recipe, until they are installed."""


@dataclass(frozen=True, slots=True)
class Local:
    """A package beside the recipe: its path there, its path in the builder, and whether it is a folder, and editable."""

    source: str
    to: str
    is_folder: bool = False
    is_editable: bool = False

    def to_json(self) -> list[object]:
        """Return its values as plain data."""
        return list(astuple(self))


@dataclass(frozen=True, slots=True)
class Place:
    """A pin as a script installs it: a requirement with hashes, or a folder; a file beside the recipe is both."""

    requirement: str
    hashes: tuple[str, ...] = ()
    local: Local | None = None


def place(pin: Pin) -> Place:
    """Return how a script installs a pin."""
    if not pin.source:
        return Place(pin.requirement, pin.hashes)
    if not pin.hashes:
        folder = SOURCES if pin.is_editable else TEMPORARY
        return Place("", local=Local(pin.source, f"{folder}/{pin.name}", is_folder=True, is_editable=pin.is_editable))
    file = f"{TEMPORARY}/{posixpath.basename(pin.source)}"
    return Place(f"{pin.name} @ file://{quote(file)}", pin.hashes, Local(pin.source, file))
