"""gc: what is left in a cloud that nobody will come back for, and its removal.

The rules, by the labels that everything of ours carries; only what belongs to this owner is ever looked at:

- A builder, a test machine, or a machine or image that is still being made (label `role`) is waste once the client that
  made it is dead: a process of this computer, by pid and start time (`clouds.client`). While that client is alive it never is.
  A client that cannot be compared (another computer, a container, labels of an older release) counts as alive until a day
  after `expires`.
- A builder that was kept for a look (label `keep`) is waste once it has expired, and not before.
- A machine that runs past its lifetime is stopped, never deleted: its disk holds its user's work. One that is off stays.
- A finished image is never waste, be it stable or a candidate that failed its tests.

What the cloud does not list but the ledger remembers is judged alike; entries of what is gone are forgotten.
Between the judgement and the removal a user may think for hours: each thing is looked at again right before it goes.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from clouds import names
from clouds.accounts import account_key, cloud_of
from clouds.client import Fate
from clouds.driver import Cloud, Kind, Resource, State
from clouds.errors import BakehouseError, LeftoverError, UnreachableError
from clouds.incomplete import partly, whole
from clouds.ledger import Entry, Ledger
from clouds.lifecycle import has_ended, remove, stop_machine
from clouds.partial import sweep

STRANGER_S = 24 * 3600
"""How long past its `expires` something is left to a client elsewhere, which may still be alive."""
KEEP_LOGS_S = 30 * 24 * 3600
"""How long the logs of a bake are kept in BAKEHOUSE_HOME; those of a finished image lie beside the image."""
KEEP_NOTES_S = 90 * 24 * 3600
"""How long the ledger keeps a note of what is not there and of whose client nothing is known."""

_UNFINISHED = ("builder", "test", "machine-in-progress", "image-in-progress")

IsDead = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Waste:
    """Something that nobody will come back for: why, and whether it is to be stopped only."""

    resource: Resource
    reason: str
    stop_only: bool = False

    def __str__(self) -> str:
        remedy = "stop" if self.stop_only else "delete"
        return f"{remedy} {self.resource.kind} {self.resource.name}: {self.reason}"


def find(cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead) -> list[Waste]:
    """Return the waste of this owner, machines before the images that they use. `now` is in seconds since the epoch.

    UnreachableError: a part of the cloud did not answer; `found` is the waste in the rest.
    """
    ours, missing = _ours(cloud, ledger)
    found = [(resource, _judge(resource, now, is_dead)) for resource in ours]
    waste = [Waste(resource, reason, _is_kept_work(resource)) for resource, reason in found if reason]
    return whole(f"resources of {cloud.name}", sorted(waste, key=lambda one: one.resource.kind is not Kind.MACHINE), missing)


def collect(cloud: Cloud, ledger: Ledger, wastes: Iterable[Waste]) -> list[Waste]:
    """Remove waste, going on past failures; return that which stays because it is not what was judged any more.

    Raises LeftoverError, which names what is left and why.
    """
    _take_over(cloud, ledger)
    left, changed = [], []
    for waste in wastes:
        try:
            found = cloud.find(waste.resource.kind, waste.resource.name)
            if found and _is_same(found, waste.resource):
                _remove(cloud, ledger, waste)
            elif found:
                changed.append(waste)
        except BakehouseError as error:
            left.append(f"{waste.resource.kind} {waste.resource.name} ({error.message})")
    if left:
        raise LeftoverError("could not remove:\n" + "\n".join(left), left=left, next_step="Run again: ./inv gc")
    return changed


def forget_absent(cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead) -> None:
    """Drop from the ledger what a dead client asked for and what is not there.

    What may be out of reach stays noted, and what was asked for so lately that its cloud may not list it yet.
    """
    _take_over(cloud, ledger)
    account = account_key(cloud)
    under_way = _under_way(cloud, ledger)
    for entry in ledger.entries(account):
        if (entry.kind, entry.name) in under_way or now - entry.asked_at < cloud.limits.unseen_s:
            continue  # it may come yet
        with suppress(UnreachableError):
            if (is_dead(entry.labels) or _is_old(entry)) and cloud.find(entry.kind, entry.name) is None:
                ledger.forget(account, entry.kind, entry.name)


def forget_bakes(cloud: Cloud, ledger: Ledger, *, is_dead: IsDead = names.client_is_dead) -> None:
    """Drop from the ledger the bakes of dead clients of which there is no builder any more."""
    account = account_key(cloud)
    for note in ledger.bakes(account):
        is_over = is_dead(note.labels) or time.time() - note.asked_at > KEEP_NOTES_S
        with suppress(UnreachableError):
            if is_over and cloud.find(Kind.MACHINE, note.id) is None:
                ledger.forget_bake(account, note.id)


def _under_way(cloud: Cloud, ledger: Ledger) -> set[tuple[Kind, str]]:
    """Ask about the operations that commands have left behind, and return what is still being made or removed."""
    account = account_key(cloud)
    left = set()
    for ticket in ledger.tickets(account):
        if has_ended(cloud, ticket):
            ledger.end(account, ticket)
        else:
            left.add((ticket.kind, ticket.name))
    return left


def _take_over(cloud: Cloud, ledger: Ledger) -> None:
    """Give the account what an older release noted for the cloud as a whole and the account has; the rest may be another's."""
    older, account = cloud_of(cloud.name), account_key(cloud)
    for entry in ledger.entries(older) if older != account else ():
        with suppress(UnreachableError):
            if cloud.find(entry.kind, entry.name):
                ledger.move(entry, account)
            elif _is_old(entry):
                ledger.forget(older, entry.kind, entry.name)


def _is_old(entry: Entry) -> bool:
    return time.time() - entry.asked_at > KEEP_NOTES_S


def prune_logs(home: Path, *, now: float) -> list[str]:
    """Remove the folders of bakes that ended long ago, and return their ids."""
    folder = home / "bakes"
    old = [bake for bake in folder.glob("*") if _is_older(bake, now - KEEP_LOGS_S)]
    for bake in old:
        shutil.rmtree(bake, ignore_errors=True)
    return sorted(bake.name for bake in old)


def _is_older(path: Path, than: float) -> bool:
    """Return whether a file was written before a time; one that somebody else removes meanwhile was not."""
    try:
        return path.stat().st_mtime < than
    except FileNotFoundError:
        return False


def sweep_scratch(home: Path) -> None:
    """Remove the copies of disks that bakes were looking into when they were killed."""
    for bake in (home / "bakes").glob("*"):
        sweep(bake)


def _ours(cloud: Cloud, ledger: Ledger) -> tuple[list[Resource], set[str]]:
    """Return what the cloud lists as this owner's, what only the ledger knows to be, and the zones that could not be reached."""
    mine = {"project": names.PROJECT, "owner": names.client_labels()["owner"]}
    listed, scopes = partly(lambda: cloud.owned(mine))
    ours, missing = list(listed), set(scopes)
    known = {(resource.kind, resource.name) for resource in listed}
    accounts = dict.fromkeys((account_key(cloud), cloud_of(cloud.name)))
    for entry in (entry for account in accounts for entry in ledger.entries(account)):
        if (entry.kind, entry.name) in known:
            continue
        try:
            found = cloud.find(entry.kind, entry.name)
        except UnreachableError as error:
            missing.update(error.scopes)
            continue
        labels = {**entry.labels, **found.labels} if found else {}
        if found and mine.items() <= labels.items():
            ours.append(replace(found, labels=labels))
    return ours, missing


def _judge(resource: Resource, now: float, is_dead: IsDead) -> str:
    """Return why a resource is waste, or ''."""
    labels = resource.labels
    late_s = _late_s(labels, now)
    if labels.get("keep") == "1":
        return "was kept for a look, and has expired" if late_s > 0 and not _lives(labels, is_dead) else ""
    if labels.get("role") in _UNFINISHED or resource.state is State.PENDING:
        return _judge_unfinished(labels, late_s, is_dead)
    if labels.get("role") == "machine" and resource.state is State.RUNNING and late_s > 0:
        return "runs past its lifetime"
    return ""


def _judge_unfinished(labels: Mapping[str, str], late_s: float, is_dead: IsDead) -> str:
    if is_dead(labels):
        return f"the command that made it (process {labels.get('client-pid', '?')}) has ended"
    return "expired more than a day ago" if late_s > STRANGER_S and not _lives(labels, is_dead) else ""


def _lives(labels: Mapping[str, str], is_dead: IsDead) -> bool:
    """Return whether the client that made a resource is known to be alive: a process of this computer."""
    return not is_dead(labels) and names.client_fate(labels) is Fate.ALIVE


def _late_s(labels: Mapping[str, str], now: float) -> float:
    """Return for how many seconds a resource has been expired: 0 when it has not, or has no limit."""
    expires = names.number(labels, "expires")
    return max(0.0, now - expires) if expires else 0.0


def _is_same(found: Resource, judged: Resource) -> bool:
    """Return whether a resource is still the one that was judged: its name may have been reused, or its user has restarted it.

    `found` lacks labels that only the ledger has.
    """
    return found.created_at == judged.created_at and found.labels.items() <= judged.labels.items()


def _is_kept_work(resource: Resource) -> bool:
    return resource.labels.get("role") == "machine"


def _remove(cloud: Cloud, ledger: Ledger, waste: Waste) -> None:
    if waste.stop_only:
        stop_machine(cloud, waste.resource.name)
    else:
        remove(cloud, ledger, waste.resource.kind, waste.resource.name)
