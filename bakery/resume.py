"""Resume a bake whose client has died, from the ledger: its order, how far its builder had come, what it had requested.

What its client was doing when it died may still be under way, so operations with a ticket are awaited first. Then the bake
continues from the furthest thing that exists: its image, else its builder, else from the order alone. The machine that tests the
image is started anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bakery import elsewhere
from bakery.bake import Baked, baked, carry_out, open_run
from bakery.errors import RecipeError
from bakery.events import Note, OnEvent
from bakery.noting import HELD, forgotten
from bakery.order import Order, find_equal, images_of, read_order
from bakery.recipe.recipe import load
from bakery.run import Left, Run
from clouds import names
from clouds.accounts import account_key
from clouds.client import Fate
from clouds.driver import Cloud, Kind, Resource, State, Ticket
from clouds.errors import BakehouseError, CloudError, ConflictError, NotFoundError, TimedOutError, UsageError
from clouds.ledger import BakeNote, Ledger
from clouds.lifecycle import await_seen, perform, remove
from clouds.partial import sweep
from clouds.undo import Undo
from clouds.waiter import until
from launcher.cached_layers import limit_bytes
from launcher.log import read_result

Confirm = Callable[[str], None]
"""Asks the user a question; raises an error unless the answer is yes."""


def resume(cloud: Cloud, bake_id: str, *, home: Path, confirm: Confirm, on_event: OnEvent = lambda _event: None) -> Baked:
    """Take up a bake whose client has died, and return its image.

    UsageError: no unfinished bake has this id. ConflictError: its client is alive. Other errors as those of `bakery.bake.bake`.
    """
    began, layers_bytes = time.monotonic(), limit_bytes()
    ledger = Ledger(home / "ledger.sqlite3", lambda line: on_event(Note(line)))
    note = next((one for one in ledger.bakes(account_key(cloud)) if one.id == bake_id), None)
    parts = [] if note else elsewhere.parts_of(cloud, bake_id)
    if note:
        order = _order(note)
    elif parts and not read_result(home, bake_id):
        note, order = elsewhere.from_labels(cloud, bake_id, parts, home, lambda line: on_event(Note(line)))
    else:
        raise _not_found(cloud, bake_id, home)
    _check_client(note, confirm)
    if parts:
        elsewhere.record(ledger, note, parts)
    order = replace(order, labels={**order.labels, **_own_labels(order)})
    note_now = {**order.to_json(), HELD: note.order.get(HELD, "")}
    if not ledger.take_bake(note, note_now):
        raise ConflictError(f"bake {bake_id!r}: another command has just resumed it", next_step="See: ./inv bakes")
    run = open_run(cloud, order, home, on_event)
    sweep(run.record.folder)
    run.tell(f"{order.id}: resuming the bake of {order.recipe.name} on {cloud.name}{_changed(order)}")
    run.listed, run.left = images_of(cloud, order.recipe.name), _take_over(run, note)
    if run.left.image and run.left.image.labels.get("role") == "image":
        return _ended(run, run.left.image, began)
    equal = find_equal(cloud, order, run.listed)
    run.held = equal if equal and equal.name == note.order.get(HELD) else None
    return carry_out(run, _tidying(run), began, layers_bytes)


def _order(note: BakeNote) -> Order:
    """Return the order of an unfinished bake from its record."""
    order = read_order(note.order)
    if order is None:
        raise UsageError(
            f"bake {note.id!r}: another release of Bakehouse has started it, whose order this one cannot read",
            next_step="Resume it with that release, or bake again.",
        )
    return order


def _check_client(note: BakeNote, confirm: Confirm) -> None:
    """Raise ConflictError if the client of a bake is alive; ask if this computer cannot see it."""
    fate = names.client_fate(note.labels)
    client = f"process {note.labels.get('client-pid', '?')} on {note.labels.get('client-host', '?')}"
    if fate is Fate.ALIVE:
        stop = f"press Ctrl-C in its terminal, or: kill {note.labels['client-pid']}"
        raise ConflictError(f"bake {note.id!r} is running ({client})", next_step=f"Wait for it, {stop}")
    if fate is Fate.UNKNOWN:
        confirm(f"This computer cannot see whether the client of {note.id} ({client}) has ended. Resume only if it has. Resume?")


def _own_labels(order: Order) -> dict[str, str]:
    """Return the labels that make this process the client of a bake; its owner stays."""
    own = {key: value for key, value in names.client_labels().items() if key != "owner"}
    return own | {"expires": str(int(time.time() + order.deadline_s))}


def _changed(order: Order) -> str:
    """Return what to say if the recipe has changed since the order was placed."""
    try:
        is_changed = load(order.recipe.folder / f"{order.recipe.name}.toml") != order.recipe
    except RecipeError:
        is_changed = True
    return "; the recipe has changed since, and this bake does not follow that" if is_changed else ""


def _take_over(run: Run, note: BakeNote) -> Left:
    """Await what the dead client has requested, remove its test machines, and label as ours what the bake continues with."""
    cloud, ledger, order = run.cloud, run.ledger, run.order
    account = account_key(cloud)
    requested = [entry for entry in ledger.entries(account) if entry.labels.get("bake") == order.id]
    own = {(entry.kind, entry.name) for entry in requested}
    for ticket in ledger.tickets(account):
        if (ticket.kind, ticket.name) in own:
            with suppress(CloudError, TimedOutError):  # what exists is looked up below
                perform(cloud, ledger, ticket)
    for name in (names.test_machine_name(order.id), names.memory_machine_name(order.id)):
        if (Kind.MACHINE, name) in own:
            await_seen(cloud, Kind.MACHINE, name)
            remove(cloud, ledger, Kind.MACHINE, name)
    images = (image for kind, name in own if kind is Kind.IMAGE and (image := _await_image(run, name)))
    image = next(images, None)
    builder = await_seen(cloud, Kind.MACHINE, order.id) if (Kind.MACHINE, order.id) in own and not image else None
    if found := image or builder:
        with suppress(NotFoundError):  # its deadline has just passed
            cloud.label(found.kind, found.name, {key: order.labels[key] for key in _own_labels(order)})
    return Left(note, builder, image)


def _await_image(run: Run, name: str) -> Resource | None:
    """Return the image of this bake once it is complete; None: it has another owner, or was not completed."""
    cloud, ticket = run.cloud, Ticket("snapshot", Kind.IMAGE, name)
    found = await_seen(cloud, Kind.IMAGE, name)
    if found is None or found.labels.get("bake") != run.order.id:
        return None

    def is_complete() -> bool:
        nonlocal found
        found = cloud.find(Kind.IMAGE, name) if cloud.check(ticket) else found
        return found is None or found.state is not State.PENDING

    timeout_s = cloud.limits.operation_s(ticket.verb) * cloud.slowness
    until(is_complete, what=f"image {name!r}", timeout_s=timeout_s, poll_max_s=cloud.limits.poll_max_s)
    if found and found.state is State.BROKEN:
        remove(cloud, run.ledger, Kind.IMAGE, name)
        return None
    return found


def _ended(run: Run, image: Resource, began: float) -> Baked:
    """Return the result of a bake that was killed after it had published its image. BakehouseError: it had failed its tests."""
    order = run.order
    with forgotten(run.cloud, run.ledger, order):
        if image.labels.get("state") != names.STABLE:
            message = f"bake {order.id!r} has failed: image {image.name!r} is kept as a candidate"
            raise BakehouseError(message, next_step=f"For the log see: ./inv log {order.id}")
        run.cloud.label(Kind.IMAGE, image.name, {"state": names.STABLE})  # all that belongs to it may not have been done
    return baked(run, names.parse_version(image.labels["version"]), began)


@contextmanager
def _tidying(run: Run) -> Iterator[None]:
    """Forget a bake when it ends; before that, remove rules and disks of machines that its dead client had begun to create."""
    with forgotten(run.cloud, run.ledger, run.order), Undo() as undo:
        undo.add(f"rules and disks of {run.order.id}", lambda: _remove_orphans(run), by_hand="./inv gc")
        yield


def _remove_orphans(run: Run) -> None:
    for found in run.cloud.owned({"project": names.PROJECT, "bake": run.order.id}, {Kind.DISK, Kind.RULE}):
        remove(run.cloud, run.ledger, found.kind, found.name, found.zone)


def _not_found(cloud: Cloud, bake_id: str, home: Path) -> BakehouseError:
    """Return the error for a bake that is not unfinished: it has finished or failed, was interrupted, or is unknown."""
    result = read_result(home, bake_id)
    if image := result.get("image"):
        return UsageError(f"bake {bake_id!r} has finished: its image is {image!r}", next_step="See: ./inv images")
    if why := result.get("error"):
        failed = f"bake {bake_id!r} {'was ' if result.get('interrupted') else 'has failed: '}{why}"
        return UsageError(failed, next_step=f"Bake again: ./inv bake --recipe {result.get('recipe', 'NAME')}")
    return NotFoundError(f"bake {bake_id!r} not found on {cloud.name}", next_step="See: ./inv bakes")
