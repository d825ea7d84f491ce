"""The machines of a cloud, as their owner sees them: what there is, stop, start, delete."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

from clouds import names
from clouds.driver import Kind, Launcher, Resource, State, Tell
from clouds.errors import CloudError, NotFoundError, TimedOutError, UsageError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import is_running, remove, settle, stop_machine
from clouds.near import did_you_mean
from launcher import identity, notebook
from launcher.boot import Boot, bring_up, ssh_answers

GRACE_S = 300
"""How long after a machine should have ended itself the cloud does it; multiplied by the cloud's slowness."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine. `url` is where its notebook answers while it is on; `left_s` the rest of its lifetime (None: no limit, or off)."""

    name: str
    state: str
    cloud: str
    url: str | None
    image: str
    left_s: float | None
    labels: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        """Return what programs are shown."""
        return {"name": self.name, "state": self.state, "cloud": self.cloud, "url": self.url, "labels": dict(self.labels)}


def machines(cloud: Launcher) -> list[MachineView]:
    """Return every machine, oldest first; also those that bake and test (their label `role` says so): they too are paid for."""
    return [_view(cloud, found) for found in _machines(cloud)]


def find_machine(cloud: Launcher, name: str) -> MachineView:
    """Return a machine. NotFoundError, with the names that come near: there is none."""
    found = cloud.find(Kind.MACHINE, name)
    if found is None:
        next_step = did_you_mean(name, [machine.name for machine in _machines(cloud)], otherwise="See: ./inv machines")
        raise NotFoundError(f"machine {name}: there is none on {cloud.name}", next_step=next_step)
    return _view(cloud, found)


def running_machine(cloud: Launcher, name: str) -> MachineView:
    """Return a machine that is on. CloudError: it is not, and how to start it."""
    view = find_machine(cloud, name)
    if view.state not in (State.STARTING, State.RUNNING):
        raise CloudError(f"machine {name}: it is {view.state}", next_step=f"Start it first: ./inv start {name}")
    return view


def notebook_url(cloud: Launcher, name: str) -> str:
    """Return the URL of the notebook of a machine that is on. CloudError: it has none."""
    view = running_machine(cloud, name)
    if view.url is None:
        raise CloudError(f"machine {name}: it has no notebook", next_step=f"Work in a shell: ./inv ssh {name}")
    return view.url


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
    await_answer(cloud, boot, has_notebook=view.labels.get("notebook") == "1")
    return find_machine(cloud, name)


def delete(cloud: Launcher, ledger: Ledger, name: str) -> None:
    """Delete a machine at once, on or off, with its disk and what SSH knows of it. NotFoundError: there is none."""
    find_machine(cloud, name)
    remove(cloud, ledger, Kind.MACHINE, name)
    identity.sync(home(), cloud)


def await_answer(cloud: Launcher, boot: Boot, *, has_notebook: bool) -> str | None:
    """Pin the host key of a machine that has come up, wait until its service answers, and return its URL if that is a notebook."""
    identity.pin(home(), cloud.name, boot.machine, boot.host_key)
    identity.sync(home(), cloud)
    if has_notebook:
        url = _url(cloud, boot.machine)
        boot.await_answer(lambda: notebook.answers(url), what="an answer of its notebook")
        return url
    boot.await_answer(lambda: ssh_answers(cloud.address(boot.machine, identity.SSH_PORT)), what="an answer of its SSH server")
    return None


def expiry(lifetime_h: float) -> int:
    """Return when a lifetime that begins now ends, in seconds since the epoch; 0 for no limit. UsageError: not a lifetime."""
    if not math.isfinite(lifetime_h) or lifetime_h < 0:
        raise UsageError(f"lifetime {lifetime_h:g} h: not a time", next_step="Give hours, such as 24 or 0.5; 0 means no limit.")
    return int(time.time() + lifetime_h * 3600) if lifetime_h else 0


def backstop_s(cloud: Launcher, lifetime_h: float) -> int:
    """Return after how many seconds the cloud itself ends a machine that has not ended itself; 0 for never."""
    return int(lifetime_h * 3600 + GRACE_S * cloud.slowness) if lifetime_h else 0


def _machines(cloud: Launcher) -> list[Resource]:
    return [found for found in cloud.owned({"project": names.PROJECT}) if found.kind is Kind.MACHINE]


def _view(cloud: Launcher, machine: Resource) -> MachineView:
    is_on = machine.state is State.RUNNING
    expires = int(machine.labels.get("expires", "0"))
    return MachineView(
        name=machine.name,
        state=str(machine.state),
        cloud=cloud.name,
        url=_url_or_none(cloud, machine.name) if is_on and machine.labels.get("notebook") == "1" else None,
        image=machine.labels.get("image", ""),
        left_s=max(0.0, expires - time.time()) if is_on and expires else None,
        labels=machine.labels,
    )


def _url(cloud: Launcher, machine: str) -> str:
    endpoint = cloud.address(machine, notebook.NOTEBOOK_PORT)
    return f"http://{endpoint.host}:{endpoint.port}/"


def _url_or_none(cloud: Launcher, machine: str) -> str | None:
    """Return the URL; None for a machine that has just gone, which must not spoil the list of the others."""
    try:
        return _url(cloud, machine)
    except CloudError:
        return None
