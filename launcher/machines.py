"""Find, list and delete the machines of a cloud."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

from clouds import names
from clouds.capabilities import NamesHosts
from clouds.client import Fate
from clouds.driver import Cloud, Kind, Resource, State, Tell
from clouds.errors import CloudError, ConflictError, NotFoundError, UsageError
from clouds.home import home
from clouds.incomplete import partly, whole
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from clouds.near import did_you_mean
from launcher.access import identity, tunnel, wait
from launcher.kept_disks import LABEL, forgo
from launcher.regions import other_regions, where

GRACE_S = 300
"""How long after a machine's own auto-stop the cloud stops it, in seconds; multiplied by the cloud's slowness."""
LIFETIME_H = 24.0
"""The default lifetime of a machine, in hours, from its launch or start."""
STATIC_IP = "static-ip"
"""The label of a machine that has a reserved address: its name."""
_MACHINES_OF_A_BAKE = {"builder": "the builder", "test": "a test machine"}
"""What the label `role` says about a machine that a bake uses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine. `left_s` is its remaining lifetime, None if it has no limit or is stopped.

    `url` is its notebook's on this computer; None if the machine is stopped, has none, or needs a tunnel that is not open.
    `region` is set where machines of several regions are listed. `dns` is its public DNS name, "" if it has none.
    """

    name: str
    state: str
    cloud: str
    url: str | None
    image: str
    left_s: float | None
    labels: Mapping[str, str]
    region: str = ""
    dns: str = ""

    @property
    def has_notebook(self) -> bool:
        """Whether it has a notebook."""
        return self.labels.get("notebook") == "1"

    @property
    def keeps_disk(self) -> bool:
        """Whether its disk outlives it."""
        return LABEL.items() <= self.labels.items() and self.labels.get("role") == "machine"

    @property
    def static_ip(self) -> str:
        """The name of its reserved address, which outlives it; "" if it has none."""
        return self.labels.get(STATIC_IP, "")

    @property
    def expires(self) -> int:
        """When its lifetime ends, in seconds since the epoch; 0: never."""
        return names.number(self.labels, "expires")

    def to_json(self) -> dict[str, object]:
        """Return the fields for `--json`."""
        shown = {"name": self.name, "state": self.state, "cloud": self.cloud, "url": self.url}
        more = {key: value for key in ("region", "dns") if (value := getattr(self, key))}
        return shown | more | {"labels": dict(self.labels)}


def machines(cloud: Cloud, region: str = "") -> list[MachineView]:
    """Return all machines, oldest first, including builders and test machines (label `role`), which are billed as well.

    `region` is the region of the cloud, if those of several are listed.

    UnreachableError: a part of the cloud did not respond; `found` is the list for the rest.
    """
    found, missing = partly(lambda: _machines(cloud))
    return whole(f"machines of {cloud.name}", [_view(cloud, machine, region) for machine in found], missing)


def find_machine(cloud: Cloud, name: str) -> MachineView:
    """Return a machine. NotFoundError suggests similar names. ConflictError: Bakehouse did not create it.

    UnreachableError: it may be in a part of the cloud that did not respond.
    """
    found = cloud.find(Kind.MACHINE, name)
    if found is None:
        others, _ = partly(lambda: _machines(cloud))
        next_step = did_you_mean(name, [machine.name for machine in others], otherwise="See: ./inv machines")
        raise NotFoundError(f"machine {name!r} not found on {where(cloud)}", next_step=next_step + other_regions(cloud, "machines"))
    if found.labels.get("project") != names.PROJECT:
        raise ConflictError(
            f"machine {name!r} on {cloud.name} was not created by Bakehouse",
            next_step="Use the cloud's own tools for it. To list Bakehouse's machines: ./inv machines",
        )
    return _view(cloud, found)


def spare_bakes(view: MachineView) -> MachineView:
    """Return a machine that the user may stop, start or delete. ConflictError: another process uses it for a bake that is running.

    The labels of a builder that `--keep` has kept name a process that has ended, so it is not refused.
    """
    what = _MACHINES_OF_A_BAKE.get(view.labels.get("role", ""))
    process = view.labels.get("client-pid", "")
    if what and process != str(os.getpid()) and names.client_fate(view.labels) is Fate.ALIVE:
        raise ConflictError(
            f"{view.name!r} is {what} of a running bake (process {process})",
            next_step=f"Press Ctrl-C in its terminal, or: kill {process}",
        )
    return view


def running_machine(cloud: Cloud, name: str) -> MachineView:
    """Return a running machine. CloudError: it is not running; the next step starts it."""
    view = find_machine(cloud, name)
    if view.state == State.BROKEN:
        raise CloudError(f"machine {name!r} on {cloud.name} is broken", next_step=f"Delete it: ./inv delete {name}")
    if view.state not in (State.STARTING, State.RUNNING):
        raise CloudError(f"machine {name!r} is {view.state}", next_step=f"Start it first: ./inv start {name}")
    return view


def notebook_machine(cloud: Cloud, name: str) -> MachineView:
    """Return a running machine with a notebook. CloudError: it is not running, or has no notebook."""
    view = running_machine(cloud, name)
    if not view.has_notebook:
        raise CloudError(f"machine {name!r} has no notebook", next_step=f"Use a shell: ./inv ssh {name}")
    return view


def notebook_url(cloud: Cloud, name: str, tell: Tell = lambda _line: None) -> str:
    """Return the URL of a running machine's notebook; open a tunnel if it needs one. CloudError: it cannot be reached.

    This computer is allowed through the machine's firewall. An open tunnel shows that it already is.
    """
    view = notebook_machine(cloud, name)
    if view.url is None or wait.https_port(view.labels):
        wait.admit(cloud, name, tell)
    return view.url or wait.way_in(cloud, name, view.labels, identity.sync(home(), cloud))


def delete(cloud: Cloud, ledger: Ledger, name: str) -> None:
    """Delete a machine at once, even if it is running, with its disk and its SSH keys. NotFoundError: no such machine.

    ConflictError: a running bake uses it.
    """
    forgo(cloud, name, spare_bakes(find_machine(cloud, name)).labels)
    remove(cloud, ledger, Kind.MACHINE, name)
    tunnel.forget(cloud, name)
    identity.sync(home(), cloud)


def expiry(lifetime_h: float) -> int:
    """Return when a lifetime that starts now ends, in seconds since the epoch; 0 for no limit. UsageError: not a lifetime."""
    if not math.isfinite(lifetime_h) or lifetime_h < 0:
        raise UsageError(f"invalid lifetime: {lifetime_h:g} h", next_step="Give hours, such as 24 or 0.5; 0 means no limit.")
    return int(time.time() + lifetime_h * 3600) if lifetime_h else 0


def backstop_s(cloud: Cloud, lifetime_h: float) -> int:
    """Return after how many seconds the cloud stops a machine that has not stopped itself; 0 for never."""
    return int(lifetime_h * 3600 + GRACE_S * cloud.slowness) if lifetime_h else 0


def _machines(cloud: Cloud) -> list[Resource]:
    return cloud.owned({"project": names.PROJECT}, {Kind.MACHINE})


def _view(cloud: Cloud, machine: Resource, region: str = "") -> MachineView:
    is_on = machine.state is State.RUNNING
    expires = names.number(machine.labels, "expires")
    return MachineView(
        name=machine.name,
        state=str(machine.state),
        cloud=cloud.name,
        url=_url_or_none(cloud, machine) if is_on and machine.labels.get("notebook") == "1" else None,
        image=machine.labels.get("image", ""),
        left_s=max(0.0, expires - time.time()) if is_on and expires else None,
        labels=machine.labels,
        region=region,
        dns=cloud.dns_name(machine.name) if is_on and isinstance(cloud, NamesHosts) else "",
    )


def _url_or_none(cloud: Cloud, machine: Resource) -> str | None:
    """Return the URL; None without a tunnel, and if the machine was just deleted: the list of the others must not fail."""
    try:
        return wait.url(cloud, machine.name, machine.labels)
    except CloudError:
        return None
