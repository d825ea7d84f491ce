"""The fresh-boot test: launch the candidate as a user would, run the recipe's tests inside, log in to its notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bakery.errors import NotSealedError, TestsFailedError
from bakery.events import Note, OnEvent
from bakery.order import Order
from bakery.proof.live_disk import MachineFiles
from bakery.proof.seal import search
from bakery.record import Record
from bakery.watch import Watch, Watched
from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import ReadsDisks
from clouds.driver import Cloud, End, Wishes
from clouds.errors import (
    BakehouseError,
    CapacityError,
    DeniedError,
    FailedError,
    ForeignError,
    GuestError,
    HostFullError,
    MissingToolError,
    QuotaError,
    ThrottledError,
    UnreachableError,
)
from clouds.home import home
from clouds.ledger import Ledger
from clouds.undo import Undo
from launcher.access import identity
from launcher.access.notebook import check_login
from launcher.images import ImageView
from launcher.launch import Launched, LaunchOptions, launch
from launcher.log import newest

_RESPONSE_S = 30.0
"""How long the notebook may take for a response, in seconds; multiplied by the cloud's slowness."""
NOT_THE_IMAGE = (
    CapacityError,
    DeniedError,
    FailedError,
    ForeignError,
    HostFullError,
    MissingToolError,
    QuotaError,
    ThrottledError,
    UnreachableError,
)
"""Errors that are not the image's fault."""


def try_image(cloud: Cloud, ledger: Ledger, order: Order, image: ImageView, record: Record, on_event: OnEvent) -> dict[str, float]:
    """Run the tests and return the seconds of each. TestsFailedError: a test, the start or the login failed. Leaves no machine."""
    options = _options(order, image)
    what = "does not start as a machine"
    with Undo() as undo, blaming(cloud, image.name, names.test_machine_name(order.id), record, step="test", what=what):
        launched = launch(cloud, ledger, options, undo=undo, tell=lambda line: on_event(Note(line)))
        if not isinstance(cloud, ReadsDisks):
            config = identity.config_file(home(), account_key(cloud))
            search(lambda _scratch: MachineFiles(cloud, launched.name, config), order, record, image.name)
        if launched.url and launched.password:
            check_login(launched.url, launched.password, timeout_s=_RESPONSE_S * cloud.slowness)
        return _run_tests(cloud, order, launched, record, on_event)


@contextmanager
def blaming(cloud: Cloud, image: str, machine: str, record: Record, *, step: str, what: str) -> Iterator[None]:
    """Turn errors of a machine into a TestsFailedError of its image, except NOT_THE_IMAGE, and store the machine's console.

    `what` describes the failure if the error is not a BakeError.
    """
    try:
        yield
    except (*NOT_THE_IMAGE, NotSealedError):
        raise
    except GuestError as error:
        _keep_console(cloud, machine, record)
        raise TestsFailedError(f"image {image!r}: {error.message}", step=error.step, log=error.log) from error
    except BakehouseError as error:
        _keep_console(cloud, machine, record)
        raise TestsFailedError(f"image {image!r} {what}: {error.message}", step=step) from error


def _keep_console(cloud: Cloud, machine: str, record: Record) -> None:
    """Store the console of a machine before it is deleted, even if its tests never started."""
    with suppress(BakehouseError, OSError):  # do not hide why the image failed
        record.tests.write_text(newest(cloud, machine), encoding="utf-8")


def _options(order: Order, image: ImageView) -> LaunchOptions:
    nonce = names.new_nonce()
    script = order.tests.for_boot(nonce, deadline_s=int(order.deadline_s)) if order.tests else ""
    return LaunchOptions(
        image=image,
        name=names.test_machine_name(order.id),
        nonce=nonce,
        script=script,
        at_deadline=End.DELETE,
        lifetime_h=order.deadline_s / 3600,
        labels={"role": "test", "bake": order.id},
        wishes=Wishes(no_public_ip=order.no_public_ip),
    )


def _run_tests(cloud: Cloud, order: Order, launched: Launched, record: Record, on_event: OnEvent) -> dict[str, float]:
    if order.tests is None:
        return {}
    watched = Watched(
        machine=launched.name,
        bake_id=order.id,
        nonce=launched.nonce,
        checkpoints=order.tests.checkpoints,
        deadline_s=order.deadline_s,
        silence_s=order.silence_s,
        console_file=record.tests,
        noun="test",
    )
    return {f"test {name}": seconds for name, seconds in Watch(cloud, watched, on_event).run().items()}
