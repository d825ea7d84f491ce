"""Save the memory of an image: a machine boots from it once, without identity, and is frozen; launches are restored from that."""

from __future__ import annotations

from bakery.events import Note, OnEvent
from bakery.order import Order
from bakery.proof.image_test import NOT_THE_IMAGE, blaming
from bakery.record import Record
from clouds import names
from clouds.capabilities import KeepsMemory
from clouds.catalogue import Image
from clouds.driver import BootSpec, Cloud, End, Wishes
from clouds.errors import CloudError, TimedOutError
from clouds.ledger import Ledger
from clouds.lifecycle import settle
from clouds.undo import Undo
from launcher.boot import Boot, boot_machine
from launcher.images import find_image

FREEZE_S = 60
"""How long a cloud may take to save memory; multiplied by its slowness."""


def keep_memory(cloud: Cloud, ledger: Ledger, order: Order, image: str, record: Record, on_event: OnEvent) -> None:
    """Save the memory of an image, if the cloud can freeze it. TestsFailedError: no machine of it booted. Leaves no machine."""
    assert isinstance(cloud, KeepsMemory)
    spec = _spec(cloud, order, image)
    with Undo() as undo, blaming(cloud, image, spec.name, record, step="memory", what="cannot be booted to save its memory"):
        boot_machine(cloud, ledger, undo, spec, lambda line: on_event(Note(line)), come_up=Boot.await_memory)
        try:
            settle(cloud, cloud.freeze(spec.name, image), timeout_s=FREEZE_S)
        except NOT_THE_IMAGE:
            raise
        except (CloudError, TimedOutError) as error:  # not the image's fault: its machine has booted
            on_event(Note(f"image {image!r}: could not save its memory, so its machines will boot: {error.message}"))


def misfit(cloud: Cloud, image: Image) -> str:
    """Return why machines of an image, in the shape of its recipe, cannot be restored from its saved memory; "" if they can."""
    if not isinstance(cloud, KeepsMemory):
        return ""
    cpus, memory_mb, disk_gb = (names.number(image.labels, label) for label in names.SIZES)
    order = BootSpec(
        name=image.name,
        token="",
        source=image.name,
        cpus=cpus,
        memory_mb=memory_mb,
        disk_gb=disk_gb,
        labels={},
        deadline_s=0,
    )
    return cloud.unfit(order)


def _spec(cloud: Cloud, order: Order, image: str) -> BootSpec:
    """Return the spec of a machine as for a launch, but unassigned: its facts only let it report that it waits."""
    name, found = names.memory_machine_name(order.id), find_image(cloud, recipe=order.recipe.name, name=image)
    return BootSpec(
        name=name,
        token=names.new_nonce(),
        source=image,
        cpus=found.cpus,
        memory_mb=found.memory_mb,
        disk_gb=found.disk_gb,
        labels={**order.labels, "role": "test", "machine": name, "image": image},
        deadline_s=int(order.deadline_s),
        at_deadline=End.DELETE,
        facts={"NONCE": names.new_nonce(), "FREEZE": "1"},
        freezes=True,
        wishes=Wishes(no_public_ip=order.no_public_ip),
    )
