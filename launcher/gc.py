"""gc: find orphaned resources in a cloud, and remove them.

The rules depend on the labels of each resource; only resources of this owner are considered:

- A builder, a test machine, or an unfinished machine or image (label `role`) is garbage once the client that created it is dead:
  a process of this computer, identified by pid and start time (`clouds.client`). While that client is alive, it is not.
  A client whose state is unknown (another computer, a container, labels of an older release) counts as alive until a day
  after `expires`.
- But the builder and the image of a bake that this computer has recorded are kept until they expire, since the bake can be
  resumed (unless `bakes`). A bake that has ended is not recorded: what it could not remove is garbage.
- A builder that was kept for inspection (label `keep`) is garbage once it has expired.
- A machine that is running past its lifetime is stopped, never deleted: its disk contains its user's work. A stopped one is kept.
- A disk that was kept on purpose (label `keep-disk`, `launcher.kept_disks`) is never garbage, nor is a reserved address.
- A finished image is never garbage, whether stable or a candidate that failed its tests.

The same rules apply to resources that only the ledger has; entries of deleted ones are removed from it.
The user may take hours to confirm, so each resource is checked again right before its removal.
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
from clouds.driver import EVERY_KIND, Cloud, Kind, Resource, State
from clouds.errors import BakehouseError, LeftoverError, UnreachableError
from clouds.incomplete import partly, whole
from clouds.ledger import Entry, Ledger
from clouds.lifecycle import has_ended, remove, stop_machine
from clouds.partial import sweep
from launcher.addresses import unused
from launcher.kept_disks import forgo, is_kept

UNKNOWN_CLIENT_S = 24 * 3600
"""How long after `expires`, in seconds, a client elsewhere counts as alive."""
KEEP_LOGS_S = 30 * 24 * 3600
"""How long the logs of a bake are kept in BAKEHOUSE_HOME, in seconds; those of a finished image are stored with the image."""
KEEP_NOTES_S = 90 * 24 * 3600
"""How long the ledger keeps an entry of a missing resource whose client is unknown, in seconds."""

UNFINISHED = ("builder", "test", "machine-in-progress", "image-in-progress")

IsDead = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Garbage:
    """An orphaned resource, the reason why it is one, and whether to stop it only."""

    resource: Resource
    reason: str
    stop_only: bool = False

    def __str__(self) -> str:
        remedy = "stop" if self.stop_only else "delete"
        return f"{remedy} {self.resource.kind} {self.resource.name!r}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Survey:
    """What gc has found: garbage, and what is kept on purpose and billed: disks, and addresses that no machine uses.

    `resumable` are builders and images of bakes whose client is dead.
    """

    garbage: list[Garbage]
    kept: list[Resource]
    addresses: list[Resource]
    resumable: list[Resource]


def find(cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead, bakes: bool = False) -> list[Garbage]:
    """Return the garbage of this owner, machines before the images that they use. `now` is in seconds since the epoch.

    UnreachableError: a part of the cloud did not respond; `found` is the garbage in the rest.
    """
    surveyed, missing = survey(cloud, ledger, now=now, is_dead=is_dead, bakes=bakes)
    return whole(f"resources of {cloud.name}", surveyed.garbage, missing)


def survey(
    cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead, bakes: bool = False
) -> tuple[Survey, tuple[str, ...]]:
    """Return the garbage and kept disks of this owner, the unused addresses, and the parts of the cloud that did not respond.

    `bakes`: what bakes that can be resumed have left is garbage, too.
    """
    ours, missing = _ours(cloud, ledger)
    addresses, unreachable = partly(lambda: unused(cloud))
    missing.update(unreachable)
    unfinished = set() if bakes else {note.id for note in ledger.bakes(account_key(cloud))}
    resumable = [one for one in ours if one.labels.get("bake") in unfinished and _is_resumable(one, now, is_dead)]
    found = [(resource, _judge(resource, now, is_dead)) for resource in ours if resource not in resumable]
    garbage = [Garbage(resource, reason, _is_kept_work(resource)) for resource, reason in found if reason]
    garbage.sort(key=lambda one: one.resource.kind is not Kind.MACHINE)
    kept = [resource for resource in ours if is_kept(resource)]
    return Survey(garbage, kept, list(addresses), resumable), tuple(sorted(missing))


def _is_resumable(resource: Resource, now: float, is_dead: IsDead) -> bool:
    """Return whether a resource is what a bake with a dead client continues with, and has not expired."""
    labels = resource.labels
    is_part = resource.kind in (Kind.MACHINE, Kind.IMAGE) and labels.get("role") in ("builder", "image-in-progress")
    return is_part and labels.get("keep") != "1" and now < names.number(labels, "expires") and is_dead(labels)


def collect(cloud: Cloud, ledger: Ledger, garbage: Iterable[Garbage]) -> list[Garbage]:
    """Remove garbage, continuing after failures; return what was kept because it has changed since it was found.

    LeftoverError names each resource that could not be removed, and the reason.
    """
    _migrate_entries(cloud, ledger)
    left, changed = [], []
    for one in garbage:
        try:
            found = cloud.find(one.resource.kind, one.resource.name)
            if found and _is_same(found, one.resource):
                _remove(cloud, ledger, one)
            elif found:
                changed.append(one)
        except BakehouseError as error:
            left.append(f"{one.resource.kind} {one.resource.name!r} ({error.message})")
    if left:
        raise LeftoverError("could not remove:\n" + "\n".join(left), left=left, next_step="Run again: ./inv gc")
    return changed


def forget_absent(cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead) -> None:
    """Remove entries of dead clients from the ledger if their resource does not exist.

    Entries of resources that may be unreachable, or too new for the cloud to list them, are kept.
    """
    _migrate_entries(cloud, ledger)
    account = account_key(cloud)
    under_way = _under_way(cloud, ledger)
    for entry in ledger.entries(account):
        if (entry.kind, entry.name) in under_way or now - entry.asked_at < cloud.limits.unseen_s:
            continue  # it may still appear
        with suppress(UnreachableError):
            if (is_dead(entry.labels) or _is_old(entry)) and cloud.find(entry.kind, entry.name) is None:
                ledger.forget(account, entry.kind, entry.name)


def forget_bakes(cloud: Cloud, ledger: Ledger, *, now: float, is_dead: IsDead = names.client_is_dead, bakes: bool = False) -> None:
    """Remove from the ledger the expired bakes of dead clients that have no builder, unless their cloud may not list it yet.

    `now` is in seconds since the epoch. `bakes`: also those that have not expired, and could be resumed.
    """
    account = account_key(cloud)
    requested = {entry.name: entry.asked_at for entry in ledger.entries(account) if entry.kind is Kind.MACHINE}
    for note in ledger.bakes(account):
        if now - max(note.asked_at, requested.get(note.id, 0.0)) < cloud.limits.unseen_s:
            continue
        is_expired = bakes or now >= names.number(note.labels, "expires")
        is_over = (is_expired and is_dead(note.labels)) or now - note.asked_at > KEEP_NOTES_S
        with suppress(UnreachableError):
            if is_over and cloud.find(Kind.MACHINE, note.id) is None:
                ledger.forget_bake(account, note.id)


def _under_way(cloud: Cloud, ledger: Ledger) -> set[tuple[Kind, str]]:
    """Check the operations that other commands have left unfinished; return the resources still being created or removed."""
    account = account_key(cloud)
    left = set()
    for ticket in ledger.tickets(account):
        if has_ended(cloud, ticket):
            ledger.end(account, ticket)
        else:
            left.add((ticket.kind, ticket.name))
    return left


def _migrate_entries(cloud: Cloud, ledger: Ledger) -> None:
    """Move entries that an older release wrote per cloud to this account if it has the resource; others may belong elsewhere."""
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
    """Return whether a file was written before a time; False if another command has removed it meanwhile."""
    try:
        return path.stat().st_mtime < than
    except FileNotFoundError:
        return False


def sweep_scratch(home: Path) -> None:
    """Remove the temporary copies of disks that killed bakes have left."""
    for bake in (home / "bakes").glob("*"):
        sweep(bake)


def _ours(cloud: Cloud, ledger: Ledger) -> tuple[list[Resource], set[str]]:
    """Return the resources of this owner, by the cloud's labels or only by the ledger, and the zones that could not be reached."""
    mine = {"project": names.PROJECT, "owner": names.client_labels()["owner"]}
    listed, scopes = partly(lambda: cloud.owned(mine, EVERY_KIND - {Kind.ADDRESS}))  # addresses have no owner, and are kept
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
    """Return why a resource is garbage, or ''."""
    labels = resource.labels
    if is_kept(resource):
        return ""
    expired_for_s = _expired_for_s(labels, now)
    if labels.get("keep") == "1":
        return "kept for inspection, but expired" if expired_for_s > 0 and not _is_known_alive(labels, is_dead) else ""
    if labels.get("role") in UNFINISHED or resource.state is State.PENDING:
        return _judge_unfinished(labels, expired_for_s, is_dead)
    if labels.get("role") == "machine" and resource.state is State.RUNNING and expired_for_s > 0:
        return "running past its lifetime"
    return ""


def _judge_unfinished(labels: Mapping[str, str], expired_for_s: float, is_dead: IsDead) -> str:
    if is_dead(labels):
        return f"the command that created it (process {labels.get('client-pid', '?')}) has exited"
    return "expired more than a day ago" if expired_for_s > UNKNOWN_CLIENT_S and not _is_known_alive(labels, is_dead) else ""


def _is_known_alive(labels: Mapping[str, str], is_dead: IsDead) -> bool:
    """Return whether the client that created a resource is known to be alive: a process of this computer."""
    return not is_dead(labels) and names.client_fate(labels) is Fate.ALIVE


def _expired_for_s(labels: Mapping[str, str], now: float) -> float:
    """Return how long ago a resource expired, in seconds; 0 if it has not expired or never does."""
    expires = names.number(labels, "expires")
    return max(0.0, now - expires) if expires else 0.0


def _is_same(found: Resource, judged: Resource) -> bool:
    """Return whether a resource is still the one that was judged: its name may have been reused, or its user has restarted it.

    `found` lacks labels that only the ledger has.
    """
    return found.created_at == judged.created_at and found.labels.items() <= judged.labels.items()


def _is_kept_work(resource: Resource) -> bool:
    return resource.labels.get("role") == "machine"


def _remove(cloud: Cloud, ledger: Ledger, garbage: Garbage) -> None:
    if garbage.stop_only:
        stop_machine(cloud, garbage.resource.name)
        return
    if garbage.resource.kind is Kind.MACHINE:
        forgo(cloud, garbage.resource.name, garbage.resource.labels)
    remove(cloud, ledger, garbage.resource.kind, garbage.resource.name, garbage.resource.zone)
