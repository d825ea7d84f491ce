"""The verb `bakes`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clouds.home import home
from launcher.command.flags import Values
from launcher.command.hints import Command
from launcher.command.multi_cloud import visit
from launcher.command.places import ledger
from launcher.command.tables import bake_row
from launcher.command.terminal import Terminal, table

if TYPE_CHECKING:  # the records cost 10 ms, which `./inv --list` need not spend
    from clouds.driver import Cloud
    from launcher.bakes import BakeView


def show_bakes(values: Values, terminal: Terminal) -> int:
    """Print the bakes of a cloud, or of all; return the exit code."""
    from launcher.bakes import bakes

    errors: list[str] = []
    notes, now = ledger(terminal), time.time()

    def listed(cloud: Cloud, region: str) -> list[BakeView]:
        return bakes(cloud, region, notes, home(), now=now)

    lists, complete = visit(values["cloud"], listed, errors.append, region=values["region"])
    ids: dict[tuple[str, str], BakeView] = {}
    for bake in (bake for one in lists for bake in one):
        if bake.holds or (bake.cloud, bake.id) not in ids:  # each region lists the ended ones of this computer
            ids[bake.cloud, bake.id] = bake
    found = list(ids.values())
    if values["json"]:
        terminal.out_json([bake.to_json() for bake in found])
    elif not found and complete:
        terminal.tell("no bakes; to bake an image: ./inv bake")
    else:
        for line in table([bake_row(bake) for bake in found]):
            terminal.out(line)
        for bake in (bake for bake in found if bake.state == "killed"):
            command = Command("bake", ("--resume", bake.id), bake.cloud if values["cloud"] else "", bake.region)
            errors.append(f"the command of {bake.id} was killed; to continue the bake: {command}")
    for line in errors:
        terminal.tell(line)
    return 0 if complete else 1
