"""Bake a recipe into an image. `_bake` is the sequence of stages; the functions below implement them."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bakery.building import build_image
from bakery.cache import tidy
from bakery.candidate import SEALED, keep_candidate
from bakery.events import Note, OnEvent
from bakery.indexes import check_indexes
from bakery.noting import noted
from bakery.order import BakeOptions, Order, find_equal, images_of, place_order
from bakery.proof.image_test import try_image
from bakery.proof.saved_memory import keep_memory, misfit
from bakery.proof.seal import search
from bakery.recipe.recipe import Recipe
from bakery.record import open_record
from bakery.run import Run
from bakery.shipment import described
from clouds import names
from clouds.capabilities import ChecksOptions, KeepsFiles, KeepsMemory, ReadsDisks
from clouds.driver import Cloud, Kind
from clouds.ledger import Ledger
from clouds.undo import Undo
from launcher import packages
from launcher.cached_layers import limit_bytes
from launcher.command.machine_options import check_granted
from launcher.images import users, view_of
from launcher.notices import new_notices


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
    run = open_run(cloud, order, home, on_event)
    run.listed, run.held = listed, equal
    return carry_out(run, noted(cloud, run.ledger, order, equal.name if equal else ""), began, layers_bytes)


def carry_out(run: Run, noting: AbstractContextManager[None], began: float, layers_bytes: int) -> Baked:
    """Bake while `noting` records that; `began` is when the command did, on the monotonic clock."""
    cloud, order = run.cloud, run.order
    try:
        with noting:
            version = _bake(run)
    except BaseException as error:
        cause = str(error) or type(error).__name__
        is_interrupted = isinstance(error, KeyboardInterrupt)
        cause = f"interrupted ({cause})" if is_interrupted else cause
        failed = {"id": order.id, "recipe": order.recipe.name, "cloud": cloud.name, "error": cause, "interrupted": is_interrupted}
        with suppress(OSError):  # a full disk may be why it failed
            run.record.finish(failed)
        if isinstance(error, Exception):  # after Ctrl-C, exit without delay
            with suppress(Exception):  # do not hide why the bake failed
                tidy(cloud, layers_bytes, run.tell)
        raise
    tidy(cloud, layers_bytes, run.tell)
    return baked(run, version, began)


def baked(run: Run, version: names.ImageVersion, began: float) -> Baked:
    """Return the result of a bake that has published an image."""
    recipe = run.order.recipe
    return _baked(run.cloud, run.order.id, recipe, names.image_name(recipe.name, version), str(version), began, reused=False)


def open_run(cloud: Cloud, order: Order, home: Path, on_event: OnEvent) -> Run:
    """Return the run of an order, with its ledger and the folder for its files."""
    ledger = Ledger(home / "ledger.sqlite3", lambda line: on_event(Note(line)))
    return Run(cloud, ledger, order, open_record(home, order.id), on_event)


def _renew_memory(cloud: Cloud, order: Order, image: str, why: str, home: Path, on_event: OnEvent) -> None:
    """Save the memory of an image again, since QEMU, the processor or Bakehouse has changed."""
    if machines := users(cloud, image):
        line = f"image {image!r}: {why}; to save it again, delete {', '.join(machines)} and bake again, or bake with --force"
        on_event(Note(line))
        return
    on_event(Note(f"image {image!r}: {why}; saving it again"))
    run = open_run(cloud, order, home, on_event)
    with run.stage("memory"):
        keep_memory(cloud, run.ledger, order, image, run.record, on_event)
    run.record.finish({"id": order.id, "recipe": order.recipe.name, "cloud": cloud.name, "image": image, "seconds": run.seconds})


def _bake(run: Run) -> names.ImageVersion:
    """Boot, watch, stop, snapshot, inspect, freeze, test, publish; each undo is registered in advance."""
    with Undo() as undo:
        version, labels = (names.parse_version(run.held.version), run.held.labels) if run.held else build_image(run, undo)
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


def _keep_files(run: Run, image: str, version: names.ImageVersion, bake_id: str) -> None:
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
