"""Stop, suspend and start a machine."""

from __future__ import annotations

import math

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import ChecksComputer, RunsHere, Suspends
from clouds.driver import Cloud, Kind, Position, State, Tell
from clouds.errors import CloudError, TimedOutError, UsageError
from clouds.home import home
from clouds.lifecycle import console_end, settle, stop_machine
from clouds.ranges import LIFETIME_H as RANGE_H
from clouds.undo import Undo
from launcher.access import identity, tunnel, wait
from launcher.access.ssh import run
from launcher.boot import Boot, bring_up
from launcher.machines import GRACE_S, LIFETIME_H, MachineView, backstop_s, expiry, find_machine, running_machine, spare_bakes

SUSPEND_S = 600
"""How long a cloud may take to save or restore a machine's memory, in seconds; multiplied by its slowness."""

_TIMER = "bakehouse-expiry"
"""The auto-stop timer in the guest; templates/machine/identity.py.j2 starts it at each boot."""


def stop(cloud: Cloud, name: str) -> bool:
    """Shut a machine down cleanly; its disk is kept. Return whether it was suspended: then its saved memory is discarded.

    TimedOutError: it does not shut down in time. ConflictError: a running bake uses it.
    """
    was_suspended = spare_bakes(find_machine(cloud, name)).state == State.SUSPENDED
    try:
        stop_machine(cloud, name)
    except TimedOutError as error:
        error.next_step = (
            f"It may still be shutting down: look at its console with ./inv log {name}, and stop it again. "
            f"If its suspension was interrupted, let it continue: ./inv start {name}. "
            f"If it hangs, delete it with its disk: ./inv delete {name}"
        )
        raise
    tunnel.close(cloud, name)
    return was_suspended


def suspend(cloud: Cloud, name: str) -> None:
    """Suspend a machine: save its memory. A suspended one is a success.

    UsageError: the cloud does not support it. ConflictError: a running bake uses the machine.
    """
    if not isinstance(cloud, Suspends):
        raise UsageError(
            f"--suspend: not supported by cloud {cloud.name!r}",
            next_step=f"Stop it without its memory; its disk is kept: ./inv stop {name}",
        )
    if spare_bakes(find_machine(cloud, name)).state == State.SUSPENDED:
        return
    view = running_machine(cloud, name)
    with Undo() as undo:
        undo.add(f"machine {name!r} without auto-stop", lambda: _stop_at(cloud, name, view.expires), by_hand=f"./inv stop {name}")
        _stop_at(cloud, name, 0)
        settle(cloud, cloud.suspend(name), timeout_s=SUSPEND_S)
        undo.release()
    tunnel.close(cloud, name)


def start(
    cloud: Cloud, name: str, *, lifetime_h: float | None = None, source: str = "", tell: Tell = lambda _line: None
) -> MachineView:
    """Start a stopped or suspended machine with a new lifetime and its old password; return when it responds again.

    `lifetime_h` is LIFETIME_H by default. A running machine is not changed, nor is its lifetime; one that its cloud has paused
    resumes. From now on its firewall allows `source` (CIDR), by default this computer. UsageError: a lifetime was given for a
    running machine. ConflictError: a running bake uses it. If the machine does not start, the error is raised, and the machine
    is kept.
    """
    given, lifetime_h = lifetime_h, LIFETIME_H if lifetime_h is None else lifetime_h
    nonce, expires = names.new_nonce(), expiry(lifetime_h)
    view = spare_bakes(find_machine(cloud, name))
    if view.state in (State.STARTING, State.RUNNING):
        if given is not None:
            raise _keeps_its_lifetime(name, given)
        wait.admit(cloud, name, tell, source)
        settle(cloud, cloud.start(name, deadline_s=backstop_s(cloud, lifetime_h), facts={}), timeout_s=SUSPEND_S)
        return find_machine(cloud, name)
    if view.state == State.STOPPING:
        stop(cloud, name)
    if view.state == State.SUSPENDED and isinstance(cloud, Suspends):
        lifetime_h = _resumed_lifetime_h(cloud, name, given, lifetime_h)
        expires = expiry(lifetime_h)
    if isinstance(cloud, ChecksComputer):
        cloud.check_computer()
    wait.admit(cloud, name, tell, source)
    for line in cloud.logout_notices() if isinstance(cloud, RunsHere) else []:
        tell(line)
    cloud.label(Kind.MACHINE, name, {"expires": str(expires)})  # before it runs: gc would stop an expired one
    if view.state == State.SUSPENDED:
        _resume(cloud, view, expires, backstop_s(cloud, lifetime_h))
        return find_machine(cloud, name)
    seen = console_end(cloud, name)

    def begin(at: Position) -> Boot:
        ticket = cloud.start(name, deadline_s=backstop_s(cloud, lifetime_h), facts={"NONCE": nonce, "EXPIRES": str(expires)})
        settle(cloud, ticket)
        return Boot(cloud, name, nonce, at=at)

    boot = bring_up(lambda: begin(seen), lambda failed: begin(failed.at), tell)
    wait.await_answer(cloud, boot, view.labels)
    return find_machine(cloud, name)


def _keeps_its_lifetime(name: str, lifetime_h: float) -> UsageError:
    """Return the error for a new lifetime of a running machine.

    The cloud enforces the lifetime as well, and may accept a new one only for a stopped machine (instances.setScheduling of Compute
    Engine: "You can only call this method on a stopped instance", discovery document of compute v1).
    """
    return UsageError(
        f"--lifetime-h: machine {name!r} is already running; its lifetime can be set only when it starts",
        next_step=f"Stop it and start it again: ./inv stop {name}, ./inv start {name} --lifetime-h {lifetime_h:g}",
    )


def _resumed_lifetime_h(cloud: Cloud, name: str, given: float | None, lifetime_h: float) -> float:
    """Return the lifetime of a suspended machine that resumes: the requested one, or the longest that its cloud allows.

    UsageError: the cloud stops it before the end of the lifetime that the user has given.
    """
    limit_s = cloud.resumed_for_s(name) if isinstance(cloud, Suspends) else None
    if limit_s is None or 0 < backstop_s(cloud, lifetime_h) <= limit_s:
        return lifetime_h
    longest_h = max((limit_s - GRACE_S * cloud.slowness) / 3600, RANGE_H[0])
    if given is None:
        return longest_h
    longest = f"{math.floor(longest_h * 100) / 100:g}"
    raise UsageError(
        f"--lifetime-h: {cloud.name} stops the suspended machine {name!r} {longest} h after it resumes, as set at its last start",
        next_step=f"Resume it for that time: ./inv start {name}\n"
        f"Or discard its memory to set another lifetime: ./inv stop {name}, ./inv start {name} --lifetime-h {given:g}",
    )


def _resume(cloud: Cloud, view: MachineView, expires: int, deadline_s: int) -> None:
    """Resume a suspended machine. It continues its boot and reports no host key, so its key must be pinned already."""
    name = view.name
    identity.check_known(home(), account_key(cloud), name)
    seen = console_end(cloud, name)
    settle(cloud, cloud.start(name, deadline_s=deadline_s, facts={"EXPIRES": str(expires)}), timeout_s=SUSPEND_S)
    wait.await_service(cloud, Boot(cloud, name, names.new_nonce(), at=seen), view.labels)
    _stop_at(cloud, name, expires)


def _stop_at(cloud: Cloud, name: str, expires: int) -> None:
    """Set the guest's auto-stop timer (seconds since the epoch; 0: never): after a suspension the old one would fire at once.

    The lock in the guest serializes two commands that do this: one could not create its timer while the other's exists.
    """
    commands = [f"systemctl stop {_TIMER}.timer 2>/dev/null || true"]
    if expires:
        when = f"--on-calendar=@{expires} --timer-property=AccuracySec=1s"
        commands.append(f"systemd-run --quiet --unit={_TIMER} {when} systemctl poweroff")
    done = run(cloud, name, ("sudo", "flock", f"/run/{_TIMER}", "sh", "-c", "; ".join(commands)))
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise CloudError(
            f"machine {name!r}: could not set the auto-stop timer: {said}",
            next_step=f"Look at the machine: ./inv ssh {name}, ./inv log {name}",
        )
