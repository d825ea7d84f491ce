"""Switch a machine off and on again: stop, suspend, start."""

from __future__ import annotations

import math

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import RunsHere, Suspends
from clouds.driver import Cloud, Kind, Position, State, Tell
from clouds.errors import CloudError, TimedOutError, UsageError
from clouds.home import home
from clouds.lifecycle import console_end, settle, stop_machine
from clouds.undo import Undo
from launcher.access import identity, tunnel, wait
from launcher.access.ssh import run
from launcher.boot import Boot, bring_up
from launcher.machines import GRACE_S, MachineView, backstop_s, expiry, find_machine, running_machine

LIFETIME_H = 24.0
"""The lifetime of a machine that is started, unless another is given."""
SHORTEST_S = 60
"""The shortest lifetime of a machine that resumes, in seconds."""
SUSPEND_S = 600
"""How long a cloud may take to write a machine's memory away, or to read it again; multiplied by its slowness."""

_TIMER = "bakehouse-expiry"
"""The timer in the guest that ends it; templates/machine/identity.py.j2 starts it at each boot."""


def stop(cloud: Cloud, name: str) -> bool:
    """Shut a machine down in order; its disk stays. Return whether it was suspended: then its saved memory is discarded.

    Raises TimedOutError where it does not obey, with what to do then.
    """
    was_suspended = find_machine(cloud, name).state == State.SUSPENDED
    try:
        stop_machine(cloud, name)
    except TimedOutError as error:
        error.next_step = (
            f"It may still be busy ending its work: look with ./inv log {name}, and stop it again. "
            f"If its suspension was cut short, let it continue: ./inv start {name}. "
            f"If it hangs, delete it at once, its disk included: ./inv delete {name}"
        )
        raise
    tunnel.close(cloud, name)
    return was_suspended


def suspend(cloud: Cloud, name: str) -> None:
    """Freeze a machine with its memory; one that is frozen already is a success. UsageError: the cloud cannot."""
    if not isinstance(cloud, Suspends):
        raise UsageError(
            f"--suspend: the cloud {cloud.name} cannot keep the memory of a machine that is off",
            next_step=f"Shut it down, its disk stays: ./inv stop {name}",
        )
    if find_machine(cloud, name).state == State.SUSPENDED:
        return
    view = running_machine(cloud, name)
    with Undo() as undo:
        undo.add(f"machine {name} without its end", lambda: _end_at(cloud, name, view.expires), by_hand=f"./inv stop {name}")
        _end_at(cloud, name, 0)
        settle(cloud, cloud.suspend(name), timeout_s=SUSPEND_S)
        undo.release()
    tunnel.close(cloud, name)


def start(
    cloud: Cloud, name: str, *, lifetime_h: float | None = None, source: str = "", tell: Tell = lambda _line: None
) -> MachineView:
    """Start a machine that was stopped or suspended, with a new lifetime and its old password; returns when it answers again.

    Without a `lifetime_h` it is LIFETIME_H. A machine that is on already stays as it is, its lifetime included; one that its cloud
    has paused goes on. Its firewall admits `source` (CIDR), else this computer, from now on. UsageError: a lifetime was given for a
    machine that is on. Raises what keeps it from coming up; it is not deleted then.
    """
    given, lifetime_h = lifetime_h, LIFETIME_H if lifetime_h is None else lifetime_h
    nonce, expires = names.new_nonce(), expiry(lifetime_h)
    view = find_machine(cloud, name)
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
    wait.admit(cloud, name, tell, source)
    for line in cloud.logout_notices() if isinstance(cloud, RunsHere) else []:
        tell(line)
    cloud.label(Kind.MACHINE, name, {"expires": str(expires)})  # before it is on: gc must not meet an expired one running
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
    """Return the refusal of a new lifetime for a machine that is on.

    The cloud enforces it, too, and may take a new one only of a machine that is off (instances.setScheduling of Compute Engine:
    "You can only call this method on a stopped instance", discovery document of compute v1).
    """
    return UsageError(
        f"--lifetime-h: machine {name} is on already; its lifetime can be set only when it starts",
        next_step=f"Stop it and start it again: ./inv stop {name}, ./inv start {name} --lifetime-h {lifetime_h:g}",
    )


def _resumed_lifetime_h(cloud: Cloud, name: str, given: float | None, lifetime_h: float) -> float:
    """Return the lifetime of a suspended machine that resumes: what is wished, as far as its cloud allows.

    UsageError: the cloud ends it before the lifetime that was asked for would be over.
    """
    limit_s = cloud.resumed_for_s(name) if isinstance(cloud, Suspends) else None
    if limit_s is None or 0 < backstop_s(cloud, lifetime_h) <= limit_s:
        return lifetime_h
    longest_h = max(limit_s - GRACE_S * cloud.slowness, SHORTEST_S) / 3600
    if given is None:
        return longest_h
    longest = f"{math.floor(longest_h * 100) / 100:g}"
    raise UsageError(
        f"--lifetime-h: {cloud.name} stops the suspended machine {name} {longest} h after it resumes, as it was started last",
        next_step=f"Resume it for that long: ./inv start {name}\n"
        f"Or give its memory up for another lifetime: ./inv stop {name}, ./inv start {name} --lifetime-h {given:g}",
    )


def _resume(cloud: Cloud, view: MachineView, expires: int, deadline_s: int) -> None:
    """Let a suspended machine go on. It keeps its boot, so it tells no host key: that is known, or SSH would refuse it."""
    name = view.name
    identity.check_known(home(), account_key(cloud), name)
    seen = console_end(cloud, name)
    settle(cloud, cloud.start(name, deadline_s=deadline_s, facts={"EXPIRES": str(expires)}), timeout_s=SUSPEND_S)
    wait.await_service(cloud, Boot(cloud, name, names.new_nonce(), at=seen), view.labels)
    _end_at(cloud, name, expires)


def _end_at(cloud: Cloud, name: str, expires: int) -> None:
    """Let the guest end itself at another time (seconds since the epoch; 0: never): one that was frozen would be late at once.

    The lock is for two commands that do so at once: the timer of one would be in the other one's way.
    """
    commands = [f"systemctl stop {_TIMER}.timer 2>/dev/null || true"]
    if expires:
        when = f"--on-calendar=@{expires} --timer-property=AccuracySec=1s"
        commands.append(f"systemd-run --quiet --unit={_TIMER} {when} systemctl poweroff")
    done = run(cloud, name, ("sudo", "flock", f"/run/{_TIMER}", "sh", "-c", "; ".join(commands)))
    if done.returncode:
        said = done.stderr.strip() or f"exit status {done.returncode}"
        raise CloudError(
            f"machine {name}: its end was not set: {said}", next_step=f"Look at it: ./inv ssh {name}, ./inv log {name}"
        )
