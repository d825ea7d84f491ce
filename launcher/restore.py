"""Launch a machine without booting it: restore it from its image's saved memory."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, replace

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import KeepsMemory
from clouds.driver import BootSpec, Cloud, Tell
from clouds.errors import BakehouseError, RestoreError, TimedOutError, UnresponsiveError
from clouds.home import home
from clouds.ledger import Ledger
from clouds.lifecycle import announce, remove_machine, settle
from clouds.undo import Undo
from launcher.access import identity, wait
from launcher.boot import Boot
from launcher.images import ImageView

RESTORE_S = 20
"""How long a machine may take to be restored, and then to respond, in seconds: beyond that a boot is faster."""
SLOWNESS_MAX = 2.0
"""The largest slowness that counts here: reading from a file is as fast on a slow processor."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A restored machine that responds; `url` is its notebook's, None without one."""

    url: str | None


def restore(cloud: Cloud, ledger: Ledger, undo: Undo, spec: BootSpec, image: ImageView, tell: Tell) -> Restored | None:
    """Create a machine from its image's saved memory. None: not possible; it must be booted, and `tell` has received the reason.

    A machine whose guest does not respond is restored once more: of 400 emulated machines (QEMU 7.2) one hung, and the next 100
    from the same memory did not. Its removal is registered with `undo`. Errors unrelated to the memory are raised: the name is
    taken, the disk is full.
    """
    if not isinstance(cloud, KeepsMemory):
        return None
    if why := cloud.unfit(spec):
        if cloud.memory_bytes(spec.source):
            advice = f"; to save it again: ./inv bake --recipe {image.recipe}" if cloud.unfit(_in_shape_of(image, spec)) else ""
            tell(f"machine {spec.name!r}: booting from disk: {why}{advice}")
        return None
    limit_s = RESTORE_S * min(1.0, SLOWNESS_MAX / cloud.slowness)  # callers multiply it by the slowness
    for is_last in (False, True):
        own = replace(spec, token=names.new_nonce(), facts={**spec.facts, **own_facts(spec.name)})
        boot = Boot(cloud, spec.name, spec.facts["NONCE"], answer_s=limit_s)
        try:
            ticket = cloud.restore(announce(cloud, ledger, undo, own))
            identity.pin(home(), account_key(cloud), spec.name, own.facts["HOST_KEY_PUB"])  # while it is being restored
            settle(cloud, ticket, timeout_s=limit_s)
            wait.pin_certificate(cloud, boot, spec.labels)
            return Restored(wait.await_service(cloud, boot, spec.labels))
        except BakehouseError as error:
            if not (boot.ended or isinstance(error, RestoreError | TimedOutError)):
                raise
            is_last = is_last or not isinstance(error, UnresponsiveError)
            tell(f"{_first_line(error)}; {'booting it from disk' if is_last else 'restoring it once more'}")
        remove_machine(cloud, ledger, own)
        if is_last:
            break
    return None


def _in_shape_of(image: ImageView, spec: BootSpec) -> BootSpec:
    return replace(spec, cpus=image.cpus, memory_mb=image.memory_mb)


def own_facts(machine: str) -> dict[str, str]:
    """Return the facts for a machine that does not boot, and so generates no keys of its own; they are new for each machine."""
    private, public = identity.make_host_key(home(), machine)
    return {"HOST_KEY": base64.b64encode(private.encode()).decode(), "HOST_KEY_PUB": public, "MAC": _new_mac()}


def _new_mac() -> str:
    """Return a random MAC address in QEMU's range: locally administered (second bit) and unicast (first bit)."""
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def _first_line(error: BakehouseError) -> str:
    return next(iter(error.message.splitlines()), type(error).__name__)
