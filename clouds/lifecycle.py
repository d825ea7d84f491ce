"""Create and remove machines and images so that nothing leaks: ledger first, undo before do, then the waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from clouds.accounts import account_key
from clouds.driver import PIECE_BYTES, START, BootSpec, Cloud, ConsoleText, Kind, Position, Resource, State, Tell, Ticket
from clouds.errors import (
    CapacityError,
    CloudError,
    DeniedError,
    InvalidError,
    NotFoundError,
    QuotaError,
    ThrottledError,
    TimedOutError,
    UnreachableError,
    UnseenError,
)
from clouds.ledger import Ledger
from clouds.undo import Undo
from clouds.waiter import until

QUICK_S, POLL_S = 0.01, 0.1
"""How soon an operation is asked after, and how far apart the questions grow; where each counts, it is POLL_S from the start."""
ZONES_MAX = 5
"""How many zones are tried for one machine."""
_REFUSALS = (CapacityError, DeniedError, InvalidError, NotFoundError, QuotaError)
"""The errors by which a cloud says that it creates nothing. After any other it may have: an answer was lost, say."""

_LATE = "It may still finish. Look in a few minutes: ./inv machines, ./inv images; remove what was left over: ./inv gc"


@dataclass(slots=True)
class _Asked:
    """What is known of something that a cloud was asked to create; after a refusal there is nothing to wait for."""

    is_refused: bool = False


def settle(cloud: Cloud, ticket: Ticket, *, timeout_s: float | None = None) -> None:
    """Wait until an operation has ended: as long as the cloud's limits say; with `timeout_s` that long, or longer if they say so.

    Raises the operation's error, or TimedOutError. The limits are multiplied by the slowness of the cloud's guests.
    """
    limits = cloud.limits
    allowed_s = limits.operation_s(ticket.verb) if timeout_s is None else max(timeout_s, limits.operations_s.get(ticket.verb, 0))
    try:
        until(
            lambda: cloud.check(ticket),
            what=f"{ticket.verb} {ticket.kind} {ticket.name}",
            timeout_s=allowed_s * cloud.slowness,
            poll_s=POLL_S if limits.poll_max_s else QUICK_S,
            poll_max_s=limits.poll_max_s or POLL_S,
        )
    except TimedOutError as error:
        error.next_step = error.next_step or _LATE
        raise


def perform(cloud: Cloud, ledger: Ledger, ticket: Ticket, *, timeout_s: float | None = None) -> None:
    """Wait for an operation as `settle` does. Where it has an id, the ledger keeps its ticket until it is known to have ended."""
    if not ticket.operation:
        settle(cloud, ticket, timeout_s=timeout_s)
        return
    account = account_key(cloud)
    ledger.begin(account, ticket)
    try:
        settle(cloud, ticket, timeout_s=timeout_s)
    except (TimedOutError, UnreachableError, ThrottledError):
        raise  # it may go on
    except CloudError:
        ledger.end(account, ticket)
        raise
    ledger.end(account, ticket)


def has_ended(cloud: Cloud, ticket: Ticket) -> bool:
    """Return whether an operation has ended, well or not; one that cannot be asked about now has not."""
    try:
        return cloud.check(ticket)
    except (TimedOutError, UnreachableError, ThrottledError):
        return False
    except CloudError:
        return True


def await_seen(cloud: Cloud, kind: Kind, name: str) -> Resource | None:
    """Return a resource once its cloud finds it, which may take `Limits.unseen_s` from its creation on; None: it is absent."""
    limits = cloud.limits
    if not limits.unseen_s:
        return cloud.find(kind, name)
    try:
        return until(
            lambda: cloud.find(kind, name),
            what=f"{kind} {name}: to be listed",
            timeout_s=limits.unseen_s,
            poll_s=POLL_S if limits.poll_max_s else QUICK_S,
            poll_max_s=limits.poll_max_s or POLL_S,
        )
    except TimedOutError:
        return None


def create_machine(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, tell: Tell = lambda _line: None) -> None:
    """Boot a machine, labelled with its token, with its removal registered beforehand; `tell` hears of zones without capacity.

    ConflictError: the name is taken. CapacityError: none of up to five zones has any.
    """
    asked = _Asked()
    _boot_somewhere(cloud, ledger, announce(cloud, ledger, undo, spec, asked), tell, asked)
    _check_seen(cloud, Kind.MACHINE, spec.name)


def announce(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, asked: _Asked | None = None) -> BootSpec:
    """Do what comes before a machine is asked for: register its removal, note it; return its order, labelled with its token."""
    removal = partial(_remove_own, cloud, ledger, Kind.MACHINE, spec.name, ("token", spec.token), asked)
    undo.add(f"machine {spec.name}", removal, by_hand=f"./inv delete {spec.name} --yes")
    labels = {**spec.labels, "token": spec.token}
    ledger.ask(account_key(cloud), Kind.MACHINE, spec.name, labels)
    return replace(spec, labels=labels)


def remove_machine(cloud: Cloud, ledger: Ledger, spec: BootSpec) -> None:
    """Remove the machine that was made by this order; one of its name that somebody else has made stays."""
    _remove_own(cloud, ledger, Kind.MACHINE, spec.name, ("token", spec.token))


def _check_seen(cloud: Cloud, kind: Kind, name: str) -> None:
    """Return once a cloud finds what it has created: what follows looks it up. TimedOutError: it does not in time."""
    if cloud.limits.unseen_s and await_seen(cloud, kind, name) is None:
        raise TimedOutError(f"{kind} {name}: created, and not listed within {cloud.limits.unseen_s:.0f} s", next_step=_LATE)


def _boot_somewhere(cloud: Cloud, ledger: Ledger, spec: BootSpec, tell: Tell, asked: _Asked) -> None:
    """Boot a machine in the first zone that has room for it."""
    tried: set[str] = set()
    while True:
        try:
            with _noting_refusal(asked):
                ticket = cloud.boot(spec)
            return perform(cloud, ledger, ticket)
        except CapacityError as error:
            tried.add(error.zone)
            zone = next((zone for zone in error.zones if zone not in tried), "")
            if not zone or len(tried) == ZONES_MAX:
                raise
            tell(f"{error.message}; trying {zone}")
            spec = replace(spec, zone=zone)


@contextmanager
def _noting_refusal(asked: _Asked) -> Iterator[None]:
    """Note whether a request that creates something was refused, so that nothing of it can turn up later."""
    asked.is_refused = False
    try:
        yield
    except _REFUSALS:
        asked.is_refused = True
        raise


def create_image(cloud: Cloud, ledger: Ledger, undo: Undo, machine: str, image: str, labels: Mapping[str, str]) -> None:
    """Make an image of a stopped machine, with its removal registered beforehand. ConflictError: the name is taken."""
    asked = _Asked()
    removal = partial(_remove_own, cloud, ledger, Kind.IMAGE, image, ("bake", labels["bake"]), asked)
    undo.add(f"image {image}", removal, by_hand=f"./inv delete-image {image} --yes")
    ledger.ask(account_key(cloud), Kind.IMAGE, image, labels)
    with _noting_refusal(asked):
        ticket = cloud.snapshot(machine, image, labels)
    perform(cloud, ledger, ticket)
    _check_seen(cloud, Kind.IMAGE, image)


def _remove_own(cloud: Cloud, ledger: Ledger, kind: Kind, name: str, own: tuple[str, str], asked: _Asked | None = None) -> None:
    """Remove what carries our own label; a name that was taken when we asked for it is somebody else's.

    What was asked for may be there although its cloud does not find it yet: it is waited for, unless the cloud has refused it.
    UnseenError: it could not be looked at.
    """
    key, value = own
    try:
        found = cloud.find(kind, name) if asked and asked.is_refused else await_seen(cloud, kind, name)
    except CloudError as error:
        raise UnseenError(error.message, next_step=error.next_step) from error
    if found is None or found.labels.get(key) == value:
        remove(cloud, ledger, kind, name)


def stop_machine(cloud: Cloud, machine: str) -> None:
    """Shut a machine down in order and wait until it is off; raises TimedOutError when it does not obey."""
    settle(cloud, cloud.stop(machine))


def remove(cloud: Cloud, ledger: Ledger, kind: Kind, name: str) -> None:
    """Delete a resource and wait until it is gone; only then the ledger forgets it."""
    perform(cloud, ledger, cloud.delete(kind, name))
    ledger.forget(account_key(cloud), kind, name)


def is_running(cloud: Cloud, machine: str) -> bool:
    """Return whether a machine exists and is on or coming up."""
    found = cloud.find(Kind.MACHINE, machine)
    return found is not None and found.state in (State.STARTING, State.RUNNING)


def console_pieces(cloud: Cloud, machine: str) -> Iterator[ConsoleText]:
    """Yield what a machine's console has printed so far, piece by piece, the oldest that the cloud keeps first."""
    at = START
    while True:
        piece = cloud.console(machine, at)
        yield piece
        if len(piece.text) < PIECE_BYTES:
            return
        at = piece.position


def console_end(cloud: Cloud, machine: str) -> Position:
    """Return the position of what a machine's console prints from now on."""
    return [piece.position for piece in console_pieces(cloud, machine)][-1]
