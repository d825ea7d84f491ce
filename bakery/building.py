"""Build an image: boot a builder, watch it run the script, stop it, take the image of its disk.

A resumed bake follows the builder that its dead client has left, or starts another one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from bakery.cache import Start, discard, keeper, starts
from bakery.delivery import Delivery, KeyLostError
from bakery.errors import BuilderDiedError
from bakery.noting import halting, positions
from bakery.order import images_of
from bakery.run import Left, Run
from bakery.spot import explaining_reclaim, stops_builder
from bakery.watch import Watch, Watched
from clouds import catalogue, names
from clouds.accounts import account_key
from clouds.capabilities import KeepsImagesByRegion, KeepsLayers, OpensShell, ReceivesFiles
from clouds.driver import START, BootSpec, End, Kind
from clouds.errors import BakehouseError, ConflictError, GuestError, KernelPanicError, NotFoundError, RestoreError
from clouds.ledger import BakeNote
from clouds.lifecycle import adopt, create_image, create_machine, perform, remove, stop_machine
from clouds.undo import Undo

GRACE_S = 300
"""How long after the guest's own deadline the cloud stops a builder; multiplied by the cloud's slowness."""
VERSION_TRIES = 20
"""How many times to retry with the next version if other bakes of the recipe take it first."""


def build_image(run: Run, undo: Undo) -> tuple[names.ImageVersion, Mapping[str, str]]:
    """Build an image and return its version and labels; its builder is removed."""
    if run.left and run.left.image:
        adopt(run.cloud, run.ledger, undo, run.left.image, run.order.id)
        remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
        return names.parse_version(run.left.image.labels["version"]), run.left.image.labels
    with explaining_reclaim(run.cloud, run.order):
        if not (run.left and _follow(run, undo, run.left)):
            _build(run, undo)
        if stops_builder(run.cloud, run.order):
            with run.stage("stop"):
                stop_machine(run.cloud, run.order.id)
        with run.stage("snapshot"):
            version, labels = _snapshot(run, undo)
            remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
    return version, labels


def _follow(run: Run, undo: Undo, left: Left) -> bool:
    """Follow the builder of a dead client until its script is done; return False if there is none that can be followed."""
    if left.builder is None:
        return False
    adopt(run.cloud, run.ledger, undo, left.builder, run.order.id)
    if left.note.reached == len(run.order.script.checkpoints):
        return True
    why = _unfollowable(run, left.note)
    try:
        if not why:
            if run.order.sent_bytes and isinstance(run.cloud, ReceivesFiles):  # the dead client may have left it open
                perform(run.cloud, run.ledger, run.cloud.close_ssh(run.order.id))
            _watch(run, undo, _delivery(run, is_followed=True), left.note, reached=left.note.reached)
            return True
    except BakehouseError as error:
        if not (isinstance(error, KeyLostError) or _may_restart(run, Start(run.order.base.id), error)):
            raise
        why = error.message
    run.tell(f"{run.order.id}: its builder cannot be followed: {why}; starting another one")
    remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
    return False


def _unfollowable(run: Run, note: BakeNote) -> str:
    """Return why a builder cannot be followed from the position of a note; "" if it can."""
    if note.reached:
        return ""
    if isinstance(run.cloud, KeepsLayers):  # a layer may have been saved in part; starting from the last whole one takes seconds
        return "it may wait at a checkpoint"
    return "it may wait for files, and the key for them is lost" if run.order.sent_bytes else ""


def _build(run: Run, undo: Undo) -> None:
    """Run the script in a builder; restart it if it dies before its first marker (some kernels crash under TCG)."""
    tries = starts(run.cloud, run.order, run.listed, run.tell)
    for number, start in enumerate(tries, 1):
        try:
            _build_once(run, undo, start, token=run.order.id if number == 1 and not run.left else names.new_nonce())
            break
        except BakehouseError as error:
            if number == len(tries) or not _may_restart(run, start, error):
                raise
            falls_back = tries[number] != start
            run.tell(f"{error.message}; starting it once more" + (f", from {tries[number].what}" if falls_back else ""))
            remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
            if falls_back:
                discard(run.cloud, start)


def _may_restart(run: Run, start: Start, error: BakehouseError) -> bool:
    """Return whether a builder ended before its first marker, so that it may be started again."""
    if run.order.spot and isinstance(error, BuilderDiedError):  # reclaimed, rather
        return False
    if isinstance(error, BuilderDiedError | KernelPanicError):
        return error.step == run.order.script.checkpoints[0]
    return start.reached > 0 and isinstance(error, RestoreError | NotFoundError)  # the layer may be damaged, or removed since


def _build_once(run: Run, undo: Undo, start: Start, *, token: str) -> None:
    delivery = _delivery(run)
    run.ledger.forget_position(account_key(run.cloud), run.order.id)  # of an earlier builder
    create_machine(run.cloud, run.ledger, undo, _builder(run, start, token, delivery.script(start.reached)), run.tell)
    _watch(run, undo, delivery, reached=start.reached)


def _delivery(run: Run, *, is_followed: bool = False) -> Delivery:
    return Delivery(
        run.cloud, run.ledger, run.order, run.record, run.tell, run.seconds, keep=run.order.keep, is_followed=is_followed
    )


def _watch(run: Run, undo: Undo, delivery: Delivery, note: BakeNote | None = None, *, reached: int) -> None:
    """Watch a builder until its script is done: from its boot, or from where a note ends."""
    order = run.order
    watched = Watched(
        machine=order.id,
        bake_id=order.id,
        nonce=order.nonce,
        checkpoints=order.script.checkpoints,
        deadline_s=order.deadline_s,
        silence_s=order.silence_s,
        console_file=run.record.console,
        log_file=run.record.steps,
        reached=reached,
        console_at=note.console_at if note else START,
        console_rest=note.console_rest if note else "",
        log_at=note.log_at if note else START,
    )
    keep_layer = keeper(run.cloud, order, delivery.script, run.seconds, run.tell)
    at_checkpoint = keep_layer and halting(run.cloud, run.ledger, order, keep_layer)
    on_position = positions(run.cloud, run.ledger, order)
    try:
        run.seconds |= Watch(run.cloud, watched, run.on_event, at_checkpoint, on_position, delivery.on_fact).run()
    except GuestError as error:
        if order.keep and error.step != order.script.checkpoints[0]:
            undo.release()
            error.next_step = _keep_builder(run)
        raise


def _builder(run: Run, start: Start, token: str, script: str) -> BootSpec:
    order = run.order
    keep = {"keep": "1"} if order.keep else {}
    uses = {"image": start.source} if start.is_image else {}
    return BootSpec(
        name=order.id,
        token=token,
        source=start.source,
        cpus=order.cpus,
        memory_mb=order.memory_mb,
        disk_gb=order.disk_gb,
        labels={**order.labels, **keep, **uses, "role": "builder", "machine": order.id},
        deadline_s=int(order.deadline_s + GRACE_S * run.cloud.slowness),
        at_deadline=End.DELETE,
        wishes=order.wishes,
        script=script,
        build_settings=True,
        receives=order.sent_bytes > 0,
    )


def _keep_builder(run: Run) -> str:
    """Return how to log in to the kept builder, and how to delete it."""
    shell = f"Open a shell: ./inv ssh {run.order.id}\n" if isinstance(run.cloud, OpensShell) else ""
    ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(int(run.order.labels["expires"])))
    return f"The builder is kept until {ends}. {shell}Delete it: ./inv delete {run.order.id} --yes"


def _snapshot(run: Run, undo: Undo) -> tuple[names.ImageVersion, dict[str, str]]:
    """Create the image with the next free version, or the one after if another bake takes it first; return it and its labels.

    The cloud decides which version is free, since it refuses a name that is taken; where names are unique in a region only, the
    images are listed anew.
    """
    recipe, tried = run.order.recipe, list[names.ImageVersion]()
    for _ in range(VERSION_TRIES):
        is_decisive = not tried and not isinstance(run.cloud, KeepsImagesByRegion)
        listed = run.listed if is_decisive else images_of(run.cloud, recipe.name)
        version = catalogue.next_version(listed, recipe.name, besides=tried)
        labels = {
            **run.order.labels,
            "role": "image-in-progress",
            "state": names.CANDIDATE,
            "version": str(version),
            **recipe.labels,
            "disk-gb": str(max(recipe.machine.disk_gb, run.order.disk_gb)),
            "built-gb": str(run.order.disk_gb),
        }
        try:
            create_image(run.cloud, run.ledger, undo, run.order.id, names.image_name(recipe.name, version), labels)
            return version, labels
        except ConflictError:  # taken by another bake, or by an image without a version label
            tried.append(version)
    raise ConflictError(f"recipe {recipe.name!r}: other bakes took {VERSION_TRIES} versions in a row", next_step="Bake again.")
