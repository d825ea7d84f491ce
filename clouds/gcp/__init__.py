"""Google Cloud: Compute Engine, by google-cloud-compute.

No real account has been used to test it; docs/clouds.md says what stands in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clouds.gcp.driver import GoogleCloud


def connect(home: Path, settings: Mapping[str, str]) -> GoogleCloud:
    """Return Compute Engine as the settings describe it; nothing is asked yet. UsageError: a setting is missing or wrong."""
    from clouds.gcp.calls import Calls
    from clouds.gcp.driver import GoogleCloud
    from clouds.gcp.images import Images
    from clouds.gcp.places import places

    where = places(settings)
    calls = Calls(where.project, settings.get("endpoint", ""))
    images = Images(calls, where.region, home / "gcp" / f"bases-{where.project}.json")
    return GoogleCloud(calls, where, images, slowness=float(settings.get("slowness") or 1))
