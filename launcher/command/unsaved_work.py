"""Show the work that a machine alone has, before it is stopped or deleted."""

from __future__ import annotations

from clouds.driver import Cloud, State
from clouds.errors import BakehouseError
from launcher.access.unsaved import unsaved
from launcher.command.terminal import Terminal
from launcher.machines import MachineView


def show_unsaved(cloud: Cloud, view: MachineView, terminal: Terminal) -> bool:
    """List the git repositories with work that is stored nowhere else; return whether there are any.

    Only a running machine is looked at, as others are not started for it. One that does not respond is reported as not checked.
    """
    if view.state != State.RUNNING:
        return False
    try:
        found = unsaved(cloud, view.name)
    except BakehouseError as error:
        terminal.tell(f"its git repositories could not be checked for unsaved work ({error.message})")
        return False
    if found:
        terminal.tell(f"machine {view.name!r} has work in git repositories that is stored nowhere else:")
    for one in found:
        terminal.quote(f"  {one.path}: {one.what}")
    return bool(found)
