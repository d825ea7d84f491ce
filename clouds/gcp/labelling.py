"""Labels of machines, disks and images: new ones are laid over the old, again when somebody else changes them meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from clouds.errors import CloudError
from clouds.gcp import naming
from clouds.gcp.calls import Calls
from clouds.gcp.failures import ChangedError
from clouds.gcp.operations import finish

_TRIES = 5


def lay(
    calls: Calls, what: str, path: str, labels: Mapping[str, str], read: Callable[[], Mapping[str, Any]]
) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Lay labels over those of a thing; return the thing as `read`, and its labels now. CloudError: five attempts failed."""
    for _ in range(_TRIES):
        thing = read()
        wanted = {**thing.get("labels", {}), **naming.to_labels(labels)}
        try:
            operation = calls.relabel(what, path, {"labels": wanted, "labelFingerprint": thing["labelFingerprint"]})
            finish(calls, what, operation)
        except ChangedError:
            continue
        return thing, wanted
    raise CloudError(f"{what}: labels keep changing; gave up after {_TRIES} attempts", next_step="Try again.")


def lay_over_disks(calls: Calls, instance: Mapping[str, Any], labels: Mapping[str, str]) -> None:
    """Lay labels over those of a machine's boot disk: it is judged by them when the machine is deleted without its disk.

    A disk has its own labels (disks.setLabels), which do not follow those of the instance.
    """
    for disk in instance.get("disks", ()):
        if disk.get("boot") and "/disks/" in disk.get("source", ""):
            path = disk["source"].partition("/projects/")[2].partition("/")[2]
            what = f"disk {path.rpartition('/')[2]}"
            lay(calls, what, path, labels, partial(calls.get, what, path))
