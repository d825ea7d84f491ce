"""Create and remove machines and images without leaks: record in the ledger, register the undo, request, wait."""

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
"""The first and the longest interval between polls, in seconds. Where requests count against a quota, POLL_S is the first one."""
ZONES_MAX = 5
"""The number of zones to try for one machine."""
_REFUSALS = (CapacityError, DeniedError, InvalidError, NotFoundError, QuotaError)
"""The errors after which a cloud has created nothing. After any other it may have: a response was lost, for example."""

_MAY_FINISH = "It may still finish. Check in a few minutes: ./inv machines, ./inv images; to remove orphaned resources: ./inv gc"


@dataclass(slots=True)
class _Request:
    """The state of a request to create a resource; after a refusal there is nothing to wait for."""

    is_refused: bool = False


def settle(cloud: Cloud, ticket: Ticket, *, timeout_s: float | None = None) -> None:
    """Wait until an operation has ended, up to the cloud's limit for it, or up to `timeout_s` if that is longer.

    Raises the operation's error, or TimedOutError. The limits are multiplied by the cloud's slowness.
    """
    limits = cloud.limits
    allowed_s = limits.operation_s(ticket.verb) if timeout_s is None else max(timeout_s, limits.operations_s.get(ticket.verb, 0))
    try:
        until(
            lambda: cloud.check(ticket),
            what=f"{ticket.verb} {ticket.kind} {ticket.name!r}",
            timeout_s=allowed_s * cloud.slowness,
            poll_s=limits.poll_s or (POLL_S if limits.poll_max_s else QUICK_S),
            poll_max_s=limits.poll_max_s or POLL_S,
        )
    except TimedOutError as error:
        error.next_step = error.next_step or _MAY_FINISH
        raise


def perform(cloud: Cloud, ledger: Ledger, ticket: Ticket, *, timeout_s: float | None = None) -> None:
    """Wait for an operation like `settle`. If it has an id, the ledger keeps its ticket until it is known to have ended."""
    if not ticket.operation:
        settle(cloud, ticket, timeout_s=timeout_s)
        return
    account = account_key(cloud)
    ledger.begin(account, ticket)
    try:
        settle(cloud, ticket, timeout_s=timeout_s)
    except (TimedOutError, UnreachableError, ThrottledError):
        raise  # it may still be running
    except CloudError:
        ledger.end(account, ticket)
        raise
    ledger.end(account, ticket)


def has_ended(cloud: Cloud, ticket: Ticket) -> bool:
    """Return whether an operation has ended, successfully or not; False if it cannot be checked at the moment."""
    try:
        return cloud.check(ticket)
    except (TimedOutError, UnreachableError, ThrottledError):
        return False
    except CloudError:
        return True


def await_seen(cloud: Cloud, kind: Kind, name: str) -> Resource | None:
    """Return a resource once its cloud finds it, up to `Limits.unseen_s` after its creation; None: it does not exist."""
    limits = cloud.limits
    if not limits.unseen_s:
        return cloud.find(kind, name)
    try:
        return until(
            lambda: cloud.find(kind, name),
            what=f"{kind} {name!r}: visibility",
            timeout_s=limits.unseen_s,
            poll_s=POLL_S if limits.poll_max_s else QUICK_S,
            poll_max_s=limits.poll_max_s or POLL_S,
        )
    except TimedOutError:
        return None


def create_machine(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, tell: Tell = lambda _line: None) -> None:
    """Boot a machine labelled with its token, after registering its removal; `tell` receives a line per zone without capacity.

    ConflictError: the name is taken. CapacityError: none of up to five zones has capacity.
    """
    request = _Request()
    _boot_somewhere(cloud, ledger, announce(cloud, ledger, undo, spec, request), tell, request)
    _check_seen(cloud, Kind.MACHINE, spec.name)


def announce(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, request: _Request | None = None) -> BootSpec:
    """Prepare the request for a machine: register its removal, record it in the ledger; return its spec with its token as label."""
    removal = partial(_remove_own, cloud, ledger, Kind.MACHINE, spec.name, ("token", spec.token), request)
    undo.add(f"machine {spec.name!r}", removal, by_hand=f"./inv delete {spec.name} --yes")
    labels = {**spec.labels, "token": spec.token}
    ledger.ask(account_key(cloud), Kind.MACHINE, spec.name, labels)
    return replace(spec, labels=labels)


def adopt(cloud: Cloud, ledger: Ledger, undo: Undo, left: Resource, bake_id: str) -> None:
    """Register the removal of a machine or an image that the dead client of a bake has left."""
    verb = "delete" if left.kind is Kind.MACHINE else "delete-image"
    removal = partial(_remove_own, cloud, ledger, left.kind, left.name, ("bake", bake_id))
    undo.add(f"{left.kind} {left.name!r}", removal, by_hand=f"./inv {verb} {left.name} --yes")


def remove_machine(cloud: Cloud, ledger: Ledger, spec: BootSpec) -> None:
    """Remove the machine that this spec has created; another one of the same name is kept."""
    _remove_own(cloud, ledger, Kind.MACHINE, spec.name, ("token", spec.token))


def _check_seen(cloud: Cloud, kind: Kind, name: str) -> None:
    """Wait until a cloud finds a resource that it has created, since later requests look it up. TimedOutError: it does not."""
    if cloud.limits.unseen_s and not cloud.limits.listed_when_done and await_seen(cloud, kind, name) is None:
        message = f"{kind} {name!r} was created, but the cloud did not list it within {cloud.limits.unseen_s:.0f} s"
        raise TimedOutError(message, next_step=_MAY_FINISH)


def _boot_somewhere(cloud: Cloud, ledger: Ledger, spec: BootSpec, tell: Tell, request: _Request) -> None:
    """Boot a machine in the first zone with capacity."""
    tried: set[str] = set()
    while True:
        try:
            with _recording_refusal(request):
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
def _recording_refusal(request: _Request) -> Iterator[None]:
    """Record whether a request to create a resource was refused, so that the resource cannot appear later."""
    request.is_refused = False
    try:
        yield
    except _REFUSALS:
        request.is_refused = True
        raise


def create_image(cloud: Cloud, ledger: Ledger, undo: Undo, machine: str, image: str, labels: Mapping[str, str]) -> None:
    """Create an image from a stopped machine, after registering its removal. ConflictError: the name is taken."""
    request = _Request()
    removal = partial(_remove_own, cloud, ledger, Kind.IMAGE, image, ("bake", labels["bake"]), request)
    undo.add(f"image {image!r}", removal, by_hand=f"./inv delete-image {image} --yes")
    ledger.ask(account_key(cloud), Kind.IMAGE, image, labels)
    with _recording_refusal(request):
        ticket = cloud.snapshot(machine, image, labels)
    perform(cloud, ledger, ticket)
    _check_seen(cloud, Kind.IMAGE, image)


def _remove_own(cloud: Cloud, ledger: Ledger, kind: Kind, name: str, own: tuple[str, str], request: _Request | None = None) -> None:
    """Remove a resource if it has our own label; if the name was taken before our request, the resource is someone else's.

    The resource may exist before its cloud finds it, so this waits for it, unless the cloud has refused the request.
    UnseenError: it could not be checked.
    """
    key, value = own
    try:
        found = cloud.find(kind, name) if request and request.is_refused else await_seen(cloud, kind, name)
    except CloudError as error:
        raise UnseenError(error.message, next_step=error.next_step) from error
    if found is None or found.labels.get(key) == value:
        remove(cloud, ledger, kind, name)


def stop_machine(cloud: Cloud, machine: str) -> None:
    """Shut a machine down cleanly and wait until it has stopped. TimedOutError: it does not stop."""
    settle(cloud, cloud.stop(machine))


def remove(cloud: Cloud, ledger: Ledger, kind: Kind, name: str, zone: str = "") -> None:
    """Delete a resource, wait until that is done, and only then remove it from the ledger; for `zone` see `Cloud.delete`."""
    perform(cloud, ledger, cloud.delete(kind, name, zone))
    ledger.forget(account_key(cloud), kind, name)


def is_running(cloud: Cloud, machine: str) -> bool:
    """Return whether a machine exists and is running or starting."""
    found = cloud.find(Kind.MACHINE, machine)
    return found is not None and found.state in (State.STARTING, State.RUNNING)


def console_pieces(cloud: Cloud, machine: str) -> Iterator[ConsoleText]:
    """Yield the output on a machine's console so far, piece by piece, starting with the oldest that the cloud still has."""
    at = START
    while True:
        piece = cloud.console(machine, at)
        yield piece
        if len(piece.text) < PIECE_BYTES:
            return
        at = piece.position


def console_end(cloud: Cloud, machine: str) -> Position:
    """Return the position of the current end of a machine's console."""
    return [piece.position for piece in console_pieces(cloud, machine)][-1]
