"""Print which packages of an image lack a security fix: `packages IMAGE --security`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clouds import mirrors
from launcher.command.terminal import Terminal, table
from launcher.images import bake_command
from launcher.security import pypi
from launcher.security.check import check
from launcher.security.fetching import NEXT
from launcher.security.updates import Updates

if TYPE_CHECKING:
    from launcher.images import ImageView
    from launcher.packages import Package


def show(image: ImageView, found: Sequence[Package], terminal: Terminal, *, as_json: bool) -> int:
    """Print the packages of an image that lack a fix; return 1 if any do, or if a server did not answer, so that others may."""
    report = check(found, Updates(mirrors.host_mirrors()), address=pypi.ADDRESS)
    if as_json:
        terminal.out_json(report.to_json())
    else:
        rows = [
            {
                "type": one.type,
                "name": one.name,
                "installed": one.installed,
                "fixed in": ", ".join(one.fixed),
                "vulnerability": ", ".join(one.ids),
            }
            for one in report.lacks
        ]
        for line in table(rows):
            terminal.out(line)
    for one in report.not_checked:
        terminal.tell(f"not checked: {one.packages} of type {one.type}: {one.why}")
    counts = " and ".join(f"{count} of type {kind}" for kind, count in report.checked.items()) or "none"
    lacking = len({(one.type, one.name, one.installed) for one in report.lacks})
    if lacking:
        packages = "1 package" if lacking == 1 else f"{lacking} packages"
        lack = "lacks" if lacking == 1 else "lack"
        terminal.tell(f"error: {packages} of image {image.name!r} {lack} a security fix (checked: {counts})")
        terminal.tell(f"next: Bake it anew: {bake_command(image.recipe)} --refresh")
        return 1
    if any(one.failed for one in report.not_checked):
        terminal.tell(f"error: not all packages of image {image.name!r} could be checked (checked: {counts})")
        terminal.tell(f"next: {NEXT}")
        return 1
    terminal.tell(f"no package of image {image.name!r} is known to lack a security fix (checked: {counts})")
    return 0
