"""What a cloud reports about this computer, such as that KVM is not used: once per process, even if it runs several verbs."""

from __future__ import annotations

from pathlib import Path

from clouds.capabilities import RunsHere
from clouds.driver import Cloud

_SHOWN: set[tuple[Path, str]] = set()


def new_notices(cloud: Cloud, home: Path) -> list[str]:
    """Return the notices of a cloud that were not returned before in this process, for the same BAKEHOUSE_HOME."""
    found = cloud.notices() if isinstance(cloud, RunsHere) else []
    new = [line for line in found if (home, line) not in _SHOWN]
    _SHOWN.update((home, line) for line in new)
    return new
