"""Create and remove machines and images so that nothing leaks: ledger first, undo before do, then the waiting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from clouds.accounts import account_key
from clouds.driver import PIECE_BYTES, START, BootSpec, Cloud, ConsoleText, Kind, Position, State, Tell, Ticket
from clouds.errors import CapacityError, CloudError, ThrottledError, TimedOutError, UnreachableError, UnseenError
from clouds.ledger import Ledger
from clouds.undo import Undo
from clouds.waiter import until

ACCEPT_S = 30
"""How long a cloud may take to create, start or delete; multiplied by its slowness."""
QUICK_S, POLL_S = 0.01, 0.1
"""How soon an operation is asked after, and how far apart the questions grow; where each counts, it is POLL_S from the start."""
ZONES_MAX = 5
"""How many zones are tried for one machine."""
SHUTDOWN_S = 60
"""How long a guest may take to shut down in order; multiplied by the cloud's slowness."""


_LATE = "It may still finish. Look in a few minutes: ./inv machines, ./inv images; remove what was left over: ./inv gc"


def settle(cloud: Cloud, ticket: Ticket, *, timeout_s: float = ACCEPT_S) -> None:
    """Wait until an operation has ended: `timeout_s`, or longer where the cloud says that it may take longer.

    Raises the operation's error, or TimedOutError.
    """
    try:
        until(
            lambda: cloud.check(ticket),
            what=f"{ticket.verb} {ticket.kind} {ticket.name}",
            timeout_s=max(timeout_s, cloud.deadlines_s.get(ticket.verb, 0)) * cloud.slowness,
            poll_s=POLL_S if cloud.poll_max_s else QUICK_S,
            poll_max_s=cloud.poll_max_s or POLL_S,
        )
    except TimedOutError as error:
        error.next_step = error.next_step or _LATE
        raise


def perform(cloud: Cloud, ledger: Ledger, ticket: Ticket, *, timeout_s: float = ACCEPT_S) -> None:
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
    """Say whether an operation has ended, well or not; one that cannot be asked about now has not."""
    try:
        return cloud.check(ticket)
    except (TimedOutError, UnreachableError, ThrottledError):
        return False
    except CloudError:
        return True


def create_machine(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, tell: Tell = lambda _line: None) -> None:
    """Boot a machine, labelled with its token, with its removal registered beforehand; `tell` hears of zones without capacity.

    ConflictError: the name is taken. CapacityError: none of up to five zones has any.
    """
    _boot_somewhere(cloud, ledger, announce(cloud, ledger, undo, spec), tell)


def announce(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec) -> BootSpec:
    """Do what comes before a machine is asked for: register its removal, note it; return its order, labelled with its token."""
    undo.add(f"machine {spec.name}", lambda: remove_machine(cloud, ledger, spec), by_hand=f"./inv delete {spec.name} --yes")
    labels = {**spec.labels, "token": spec.token}
    ledger.ask(account_key(cloud), Kind.MACHINE, spec.name, labels)
    return replace(spec, labels=labels)


def remove_machine(cloud: Cloud, ledger: Ledger, spec: BootSpec) -> None:
    """Remove the machine that was made by this order; one of its name that somebody else has made stays."""
    _remove_own(cloud, ledger, Kind.MACHINE, spec.name, ("token", spec.token))


def _boot_somewhere(cloud: Cloud, ledger: Ledger, spec: BootSpec, tell: Tell) -> None:
    """Boot a machine in the first zone that has room for it."""
    tried: set[str] = set()
    while True:
        try:
            return perform(cloud, ledger, cloud.boot(spec))
        except CapacityError as error:
            tried.add(error.zone)
            zone = next((zone for zone in error.zones if zone not in tried), "")
            if not zone or len(tried) == ZONES_MAX:
                raise
            tell(f"{error.message}; trying {zone}")
            spec = replace(spec, zone=zone)


def create_image(cloud: Cloud, ledger: Ledger, undo: Undo, machine: str, image: str, labels: Mapping[str, str]) -> None:
    """Make an image of a stopped machine, with its removal registered beforehand. ConflictError: the name is taken."""
    own = ("bake", labels["bake"])
    undo.add(
        f"image {image}",
        lambda: _remove_own(cloud, ledger, Kind.IMAGE, image, own),
        by_hand=f"./inv delete-image {image} --yes",
    )
    ledger.ask(account_key(cloud), Kind.IMAGE, image, labels)
    perform(cloud, ledger, cloud.snapshot(machine, image, labels), timeout_s=10 * ACCEPT_S)


def _remove_own(cloud: Cloud, ledger: Ledger, kind: Kind, name: str, own: tuple[str, str]) -> None:
    """Remove what carries our own label; a name that was taken when we asked for it is somebody else's.

    UnseenError: it could not be looked at.
    """
    key, value = own
    try:
        found = cloud.find(kind, name)
    except CloudError as error:
        raise UnseenError(error.message, next_step=error.next_step) from error
    if found is None or found.labels.get(key) == value:
        remove(cloud, ledger, kind, name)


def stop_machine(cloud: Cloud, machine: str) -> None:
    """Shut a machine down in order and wait until it is off; raises TimedOutError when it does not obey."""
    settle(cloud, cloud.stop(machine), timeout_s=SHUTDOWN_S)


def remove(cloud: Cloud, ledger: Ledger, kind: Kind, name: str) -> None:
    """Delete a resource and wait until it is gone; only then the ledger forgets it."""
    perform(cloud, ledger, cloud.delete(kind, name))
    ledger.forget(account_key(cloud), kind, name)


def is_running(cloud: Cloud, machine: str) -> bool:
    """Say whether a machine exists and is on or coming up."""
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
