"""Switch a machine off and on again: stop, start."""

from __future__ import annotations

from clouds import names
from clouds.driver import Kind, Launcher, State, Tell
from clouds.errors import TimedOutError
from clouds.lifecycle import is_running, settle, stop_machine
from launcher import reach, tunnel
from launcher.boot import Boot, bring_up
from launcher.machines import MachineView, backstop_s, expiry, find_machine


def stop(cloud: Launcher, name: str) -> None:
    """Shut a machine down in order; its disk stays. TimedOutError: it does not obey, and what to do then."""
    find_machine(cloud, name)
    try:
        stop_machine(cloud, name)
    except TimedOutError as error:
        error.next_step = (
            f"It may still be busy ending its work: look with ./inv log {name}, and stop it again. "
            f"If it hangs, ./inv delete {name} ends it at once, its disk included."
        )
        raise
    tunnel.close(cloud, name)


def start(cloud: Launcher, name: str, *, lifetime_h: float = 24.0, tell: Tell = lambda _line: None) -> MachineView:
    """Start a stopped machine, with a new lifetime and its old password; returns when it answers again.

    A machine that is on already stays as it is. Raises what keeps it from coming up; it is not deleted then.
    """
    view = find_machine(cloud, name)
    if is_running(cloud, name):
        return view
    if view.state == State.STOPPING:
        stop(cloud, name)
    nonce, expires = names.new_nonce(), expiry(lifetime_h)
    cloud.label(Kind.MACHINE, name, {"expires": str(expires)})  # before it is on: gc must not meet an expired one running
    seen = cloud.console(name, 0).next_offset

    def begin(at: int) -> Boot:
        ticket = cloud.start(name, deadline_s=backstop_s(cloud, lifetime_h), facts={"NONCE": nonce, "EXPIRES": str(expires)})
        settle(cloud, ticket)
        return Boot(cloud, name, nonce, at=at)

    boot = bring_up(lambda: begin(seen), lambda failed: begin(failed.at), tell)
    reach.await_answer(cloud, boot, has_notebook=view.has_notebook)
    return find_machine(cloud, name)
