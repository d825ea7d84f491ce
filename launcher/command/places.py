"""The cloud of a command, in the region of its flags, or of the machine that it names (`clouds.capabilities.HasRegions`).

Host keys are pinned by account and region, so this computer knows in which region it has launched a machine. A command that works
in another region than that of the settings prints its commands with `--region`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import TYPE_CHECKING

import clouds
from clouds.accounts import account_key, cloud_of
from clouds.errors import UsageError
from clouds.home import home
from launcher.command.cautions import cautions
from launcher.command.flags import Flag, Values
from launcher.command.machine_options import given
from launcher.command.multi_cloud import no_regions
from launcher.command.terminal import Terminal

if TYPE_CHECKING:
    from clouds.driver import Cloud
    from clouds.ledger import Ledger

REGION = Flag("region", "the machine's region (default: where this computer launched it, else from your settings)")
REGION_OF_NAME = Flag("region", "its region (default: from your settings)")


def connect(values: Values, terminal: Terminal, flags: Iterable[Flag] = ()) -> Cloud:
    """Return the cloud of a command, with the settings from these flags."""
    from clouds.capabilities import HasRegions

    cloud = clouds.connect(values["cloud"], given(values, flags))
    for line in cautions(values, cloud):
        terminal.tell(line)
    is_placed = bool(values.get("region") or values.get("zone"))
    terminal.region = cloud.region() if is_placed and isinstance(cloud, HasRegions) else ""
    return cloud


def connect_to(machine: str, values: Values, terminal: Terminal, flags: Iterable[Flag] = ()) -> Cloud:
    """Return the cloud of a command that names something in it: in the region of `--region`, else in that of the machine.

    `machine` is "" if it names no machine. UsageError: the cloud needs no `--region`, or this computer knows a machine of this
    name in several regions.
    """
    from clouds.capabilities import HasRegions
    from clouds.home import home
    from launcher.access.identity import accounts_that_know

    flags = tuple(flags)
    cloud = connect(values, terminal, (*flags, REGION))
    if not isinstance(cloud, HasRegions):
        if values["region"]:
            raise no_regions(cloud, values["region"])
        return cloud
    keys = accounts_that_know(home(), cloud_of(cloud.name), machine)
    if values["region"] or not keys or _is_one_of(cloud, keys):
        return cloud
    regions = {key: key.rpartition(".")[2] for key in keys}
    places = {key: clouds.connect(values["cloud"], {**given(values, flags), "region": region}) for key, region in regions.items()}
    known = [key for key, place in places.items() if account_key(place) == key]
    if len(known) > 1:
        raise UsageError(
            f"machine {machine!r}: {cloud.name} has one in each of the regions {', '.join(regions[key] for key in known)}",
            next_step=f"Choose one of them, such as: --region {regions[known[0]]}",
        )
    if not known:
        return cloud
    terminal.region = regions[known[0]]
    return places[known[0]]


def _is_one_of(cloud: Cloud, keys: Container[str]) -> bool:
    """Return whether a cloud has one of these keys; False if no setting names its region."""
    try:
        return account_key(cloud) in keys
    except UsageError:
        return False


def ledger(terminal: Terminal) -> Ledger:
    """Return the ledger of this computer; it tells the terminal what it waits for."""
    from clouds.ledger import Ledger

    return Ledger(home() / "ledger.sqlite3", terminal.tell)
