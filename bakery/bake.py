"""Bake a recipe into an image. `_bake` is the sequence of stages; the functions below implement them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bakery.cache import Start, discard, keeper, starts, tidy
from bakery.candidate import SEALED, keep_candidate
from bakery.delivery import Delivery
from bakery.errors import BuilderDiedError
from bakery.events import Note, OnEvent, StepEnded, StepStarted
from bakery.indexes import check_indexes
from bakery.noting import noted, positions
from bakery.order import BakeOptions, Order, find_equal, images_of, place_order
from bakery.proof.image_test import try_image
from bakery.proof.saved_memory import keep_memory, misfit
from bakery.proof.seal import search
from bakery.recipe.recipe import Recipe
from bakery.record import Record, open_record
from bakery.shipment import described
from bakery.spot import explaining_reclaim, stops_builder
from bakery.watch import Watch, Watched
from clouds import catalogue, names
from clouds.capabilities import ChecksOptions, KeepsFiles, KeepsImagesByRegion, KeepsMemory, OpensShell, ReadsDisks
from clouds.catalogue import Image
from clouds.driver import BootSpec, Cloud, End, Kind, Resource, Wishes
from clouds.errors import BakehouseError, ConflictError, GuestError, KernelPanicError, NotFoundError, RestoreError
from clouds.ledger import Ledger
from clouds.lifecycle import create_image, create_machine, remove, stop_machine
from clouds.undo import Undo
from launcher import packages
from launcher.cached_layers import limit_bytes
from launcher.command.machine_options import check_granted
from launcher.images import users, view_of
from launcher.notices import new_notices

GRACE_S = 300
"""How long after the guest's own deadline the cloud stops a builder; multiplied by the cloud's slowness."""
VERSION_TRIES = 20
"""How many times to retry with the next version if other bakes of the recipe take it first."""


@dataclass(frozen=True, slots=True)
class Baked:
    """The result of a bake: a new image, or an existing one (`reused`); `seconds` is the duration."""

    id: str
    image: str
    recipe: str
    version: str
    cloud: str
    seconds: float
    reused: bool


@dataclass(slots=True)
class _Run:
    """The state that the stages of one bake share.

    `listed` are the images of its recipe, as they were before it; `held` is one of them that was not sealed, and is checked again.
    """

    cloud: Cloud
    ledger: Ledger
    order: Order
    record: Record
    on_event: OnEvent
    keep: bool = False
    wishes: Wishes = field(default_factory=Wishes)
    listed: Sequence[Resource] = ()
    held: Image | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def tell(self, line: str) -> None:
        """Report a line of progress."""
        self.on_event(Note(line))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Report and time a stage of the bake, which is not a step of the script."""
        self.on_event(StepStarted(name, 0, 0))
        began, ok, interrupted = time.monotonic(), False, False
        try:
            yield
            ok = True
        except KeyboardInterrupt:
            interrupted = True
            raise
        finally:
            self.seconds[name] = time.monotonic() - began
            self.on_event(StepEnded(name, self.seconds[name], ok=ok, interrupted=interrupted))


def bake(cloud: Cloud, recipe: Recipe, options: BakeOptions, *, home: Path, on_event: OnEvent = lambda _event: None) -> Baked:
    """Return the image of a recipe on a cloud: the existing one if nothing has changed, otherwise a new one.

    A candidate of the same content that was not sealed is checked again instead: the recipe may allow its findings by now.

    Raises GuestError (step, cause, last lines) or CloudError; then nothing is left in the cloud except a candidate that
    was not sealed or failed its tests, or the builder if `options.keep` is set.
    """
    began, layers_bytes = time.monotonic(), limit_bytes()
    check_granted(cloud, options.wishes)
    order = place_order(cloud, recipe, options, home, lambda line: on_event(Note(line)))
    is_forced = options.force or bool(order.reuse.why)
    listed = images_of(cloud, recipe.name)
    equal = None if is_forced else find_equal(cloud, order, listed)
    if equal and equal.is_stable:
        if why := misfit(cloud, equal):
            _renew_memory(cloud, order, equal.name, why, home, on_event)
        return _baked(cloud, equal.labels.get("bake", ""), recipe, equal.name, equal.version, began, reused=True)
    if isinstance(cloud, ChecksOptions):
        cloud.check_options(options.wishes)
    if not equal:
        check_indexes(cloud, order, listed, lambda line: on_event(Note(line)))
    doing = f"checking {equal.name} again" if equal else f"baking {recipe.name}"
    on_event(Note(f"{order.id}: {doing} on {cloud.name}"))
    for line in new_notices(cloud, home):
        on_event(Note(line))
    if order.sent_bytes and not equal:
        on_event(Note(f"{order.id}: {described(cloud, order.sent_bytes, no_public_ip=order.no_public_ip)}"))
    run = _open_run(cloud, order, home, on_event)
    run.keep, run.wishes, run.listed, run.held = options.keep, options.wishes, listed, equal
    try:
        with noted(cloud, run.ledger, order):
            version = _bake(run)
    except BaseException as error:
        cause = str(error) or type(error).__name__
        cause = f"interrupted ({cause})" if isinstance(error, KeyboardInterrupt) else cause
        failed = {"id": order.id, "recipe": recipe.name, "cloud": cloud.name, "error": cause}
        with suppress(OSError):  # a full disk may be why it failed
            run.record.finish(failed)
        if isinstance(error, Exception):  # after Ctrl-C, exit without delay
            with suppress(Exception):  # do not hide why the bake failed
                tidy(cloud, layers_bytes, run.tell)
        raise
    tidy(cloud, layers_bytes, run.tell)
    return _baked(cloud, order.id, recipe, names.image_name(recipe.name, version), str(version), began, reused=False)


def _open_run(cloud: Cloud, order: Order, home: Path, on_event: OnEvent) -> _Run:
    ledger = Ledger(home / "ledger.sqlite3", lambda line: on_event(Note(line)))
    return _Run(cloud, ledger, order, open_record(home, order.id), on_event)


def _renew_memory(cloud: Cloud, order: Order, image: str, why: str, home: Path, on_event: OnEvent) -> None:
    """Save the memory of an image again, since QEMU, the processor or Bakehouse has changed."""
    if machines := users(cloud, image):
        line = f"image {image!r}: {why}; to save it again, delete {', '.join(machines)} and bake again, or bake with --force"
        on_event(Note(line))
        return
    on_event(Note(f"image {image!r}: {why}; saving it again"))
    run = _open_run(cloud, order, home, on_event)
    with run.stage("memory"):
        keep_memory(cloud, run.ledger, order, image, run.record, on_event)
    run.record.finish({"id": order.id, "recipe": order.recipe.name, "cloud": cloud.name, "image": image, "seconds": run.seconds})


def _bake(run: _Run) -> names.ImageVersion:
    """Boot, watch, stop, snapshot, inspect, freeze, test, publish; each undo is registered in advance."""
    with Undo() as undo:
        version, labels = (names.parse_version(run.held.version), run.held.labels) if run.held else _build_image(run, undo)
        image = names.image_name(run.order.recipe.name, version)
        kept = partial(keep_candidate, run.cloud, run.order, run.record, image, undo, is_held=run.held is not None)
        with run.stage("inspect"), kept():
            if isinstance(run.cloud, ReadsDisks):  # on other clouds, the test machine searches its own
                search(partial(run.cloud.files, image), run.order, run.record, image)
        if isinstance(run.cloud, KeepsMemory):
            with run.stage("memory"), kept():
                keep_memory(run.cloud, run.ledger, run.order, image, run.record, run.on_event)
        with run.stage("test"), kept():
            run.seconds |= try_image(run.cloud, run.ledger, run.order, view_of(run.cloud, image, labels), run.record, run.on_event)
        _keep_files(run, image, version, labels.get("bake", run.order.id))
        cleared = SEALED if run.held else {}
        run.cloud.label(Kind.IMAGE, image, {"role": "image", "state": names.STABLE, **cleared})
        undo.release()
    return version


def _build_image(run: _Run, undo: Undo) -> tuple[names.ImageVersion, Mapping[str, str]]:
    """Build an image and return its version and labels; its builder is removed."""
    with explaining_reclaim(run.cloud, run.order):
        _build(run, undo)
        if stops_builder(run.cloud, run.order):
            with run.stage("stop"):
                stop_machine(run.cloud, run.order.id)
        with run.stage("snapshot"):
            version, labels = _snapshot(run, undo)
            remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
    return version, labels


def _build(run: _Run, undo: Undo) -> None:
    """Run the script in a builder; restart it if it dies before its first marker (some kernels crash under TCG)."""
    tries = starts(run.cloud, run.order, run.listed, run.tell)
    for number, start in enumerate(tries, 1):
        try:
            _build_once(run, undo, start, token=run.order.id if number == 1 else f"{run.order.id}-{number}")
            break
        except BakehouseError as error:
            if number == len(tries) or not _may_restart(run, start, error):
                raise
            falls_back = tries[number] != start
            run.tell(f"{error.message}; starting it once more" + (f", from {tries[number].what}" if falls_back else ""))
            remove(run.cloud, run.ledger, Kind.MACHINE, run.order.id)
            if falls_back:
                discard(run.cloud, start)


def _may_restart(run: _Run, start: Start, error: BakehouseError) -> bool:
    """Return whether a builder ended before its first marker, so that it may be started again."""
    if run.order.spot and isinstance(error, BuilderDiedError):  # reclaimed, rather
        return False
    if isinstance(error, BuilderDiedError | KernelPanicError):
        return error.step == run.order.script.checkpoints[0]
    return start.reached > 0 and isinstance(error, RestoreError | NotFoundError)  # the layer may be damaged, or removed since


def _build_once(run: _Run, undo: Undo, start: Start, *, token: str) -> None:
    order = run.order
    delivery = Delivery(run.cloud, run.ledger, order, run.record, run.tell, run.seconds, keep=run.keep)
    create_machine(run.cloud, run.ledger, undo, _builder(run, start, token, delivery.script(start.reached)), run.tell)
    watched = Watched(
        machine=order.id,
        bake_id=order.id,
        nonce=order.nonce,
        checkpoints=order.script.checkpoints,
        deadline_s=order.deadline_s,
        silence_s=order.silence_s,
        console_file=run.record.console,
        log_file=run.record.steps,
        reached=start.reached,
    )
    at_checkpoint = keeper(run.cloud, order, delivery.script, run.seconds, run.tell)
    try:
        on_position = positions(run.cloud, run.ledger, order)
        run.seconds |= Watch(run.cloud, watched, run.on_event, at_checkpoint, on_position, delivery.on_fact).run()
    except GuestError as error:
        if run.keep and error.step != order.script.checkpoints[0]:
            undo.release()
            error.next_step = _keep_builder(run)
        raise


def _builder(run: _Run, start: Start, token: str, script: str) -> BootSpec:
    order = run.order
    keep = {"keep": "1"} if run.keep else {}
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
        wishes=run.wishes,
        script=script,
        build_settings=True,
        receives=order.sent_bytes > 0,
    )


def _keep_builder(run: _Run) -> str:
    """Return how to log in to the kept builder, and how to delete it."""
    shell = f"Open a shell: ./inv ssh {run.order.id}\n" if isinstance(run.cloud, OpensShell) else ""
    ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(int(run.order.labels["expires"])))
    return f"The builder is kept until {ends}. {shell}Delete it: ./inv delete {run.order.id} --yes"


def _snapshot(run: _Run, undo: Undo) -> tuple[names.ImageVersion, dict[str, str]]:
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


def _keep_files(run: _Run, image: str, version: names.ImageVersion, bake_id: str) -> None:
    """Write the result of the bake; store it and the logs with the image if the cloud supports files; keep the list of packages.

    `bake_id` is that of the bake that has built the image.
    """
    seconds = {name: round(value, 2) for name, value in run.seconds.items()}
    run.record.finish({"id": run.order.id, "image": image, "version": str(version), "cloud": run.cloud.name, "seconds": seconds})
    if isinstance(run.cloud, KeepsFiles):
        run.cloud.attach(image, run.record.files())
    if not packages.keep(run.record.home, bake_id, run.record.packages.read_text(encoding="utf-8", errors="replace")):
        run.tell(f"image {image!r} has no list of its packages ({packages.IN_IMAGE})")


def _baked(cloud: Cloud, bake_id: str, recipe: Recipe, image: str, version: str, began: float, *, reused: bool) -> Baked:
    return Baked(bake_id, image, recipe.name, version, cloud.name, round(time.monotonic() - began, 3), reused)
