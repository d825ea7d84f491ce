"""The security updates of the distribution that an image lacks, as far as a new bake may bring them.

A bake installs the newest version of what its recipe installs, but does not upgrade the rest of its base. So an update may be open
right after a bake, until there is a newer base. Such ones are noted beside the list of the image's packages, and are no reason to
bake again: else an image would be baked at each run, for nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from clouds.home import read_json, write_private
from launcher.packages import known, place
from launcher.security.check import Lack, check_distribution
from launcher.security.updates import Updates

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Open:
    """The updates that an image lacks; `unknown` says why some or all of them are not known, "" if they are."""

    lacks: Sequence[Lack] = ()
    unknown: str = ""

    def __str__(self) -> str:
        return some([str(one) for one in self.lacks])


class Security:
    """What images lack, by the lists of their packages on this computer (`home`)."""

    def __init__(self, home: Path, updates: Updates) -> None:
        self._home, self._updates = home, updates

    def open(self, bake: str) -> Open:
        """Return the updates that the image of a bake lacks, and that were not open right after this bake."""
        found, noted = self._all(bake), read_json(place(self._home, bake, "open")) or {}
        return Open([one for one in found.lacks if noted.get(one.name) != one.fixed[0]], found.unknown)

    def note(self, bake: str) -> Open:
        """Return the updates that an image lacks right after its bake, and note them for `open`."""
        found = self._all(bake)
        if not found.unknown:
            write_private(place(self._home, bake, "open"), json.dumps({one.name: one.fixed[0] for one in found.lacks}))
        return found

    def _all(self, bake: str) -> Open:
        packages = known(self._home, bake)
        if packages is None:
            return Open(unknown="this computer has no list of its packages")
        report = check_distribution(packages, self._updates)
        return Open(report.lacks, "; ".join(one.why for one in report.not_checked))


def some(texts: Sequence[str]) -> str:
    """Return the first of several texts and how many others there are, such as `a, b, c and 4 others`."""
    others = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {others} others" if others > 0 else "")
