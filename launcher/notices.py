"""Lines that would be a nuisance if each command printed them.

What a cloud reports about this computer, such as that KVM is not used, is printed once per process, even if it runs several verbs;
what holds for all machines of an account, once on this computer.
"""

from __future__ import annotations

from pathlib import Path

from clouds.accounts import account_key
from clouds.capabilities import RunsHere
from clouds.driver import Cloud

_SHOWN: set[tuple[Path, str]] = set()


def new_notices(cloud: Cloud, home: Path) -> list[str]:
    """Return the notices of a cloud that were not returned before in this process, for the same BAKEHOUSE_HOME."""
    found = cloud.notices() if isinstance(cloud, RunsHere) else []
    new = [line for line in found if (home, line) not in _SHOWN]
    _SHOWN.update((home, line) for line in new)
    return new


def is_first(cloud: Cloud, home: Path, topic: str) -> bool:
    """Return whether this computer prints a line about an account for the first time, and record that it has."""
    file = home / "notices" / f"{account_key(cloud)}.{topic}"
    try:
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.touch(exist_ok=False)
    except FileExistsError:
        return False
    except OSError:  # then it is printed again
        pass
    return True
