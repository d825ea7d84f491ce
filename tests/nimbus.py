"""The package of a cloud as small as can be: what it knows, and a connection that is the settings it was given."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clouds.settings import Setting, number, one_of

SETTINGS: Mapping[str, Setting] = {
    "project": Setting("whose bill it is", environment=("NIMBUS_PROJECT", "OLD_NIMBUS_PROJECT")),
    "zone": Setting("where machines run", default="middle-1"),
    "machine_size": Setting("how large they are", ("NIMBUS_SIZE",), check=one_of("small", "large")),
    "patience": Setting("how long it may take, in hours", ("NIMBUS_PATIENCE",), check=number(0.5, 100)),
}


def connect(home: Path, settings: Mapping[str, str]) -> tuple[Path, dict[str, str]]:
    return home, dict(settings)
