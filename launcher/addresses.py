"""Addresses that `launch --static-ip` has reserved: find one and release it."""

from __future__ import annotations

from clouds import names
from clouds.driver import Cloud, Kind, Resource, State
from clouds.errors import ConflictError, NotFoundError
from clouds.incomplete import partly, whole
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher.regions import other_regions, where


def find_address(cloud: Cloud, name: str) -> Resource:
    """Return a reserved address that nothing uses.

    NotFoundError: no such address. ConflictError: it is in use. UnreachableError: it may be in a part of the cloud that did not
    respond.
    """
    found, missing = partly(lambda: cloud.owned({"project": names.PROJECT}, {Kind.ADDRESS}))
    named = [address for address in found if address.name == name]
    if any(address.state is State.RUNNING for address in named):
        raise ConflictError(f"address {name!r} is in use", next_step="Delete the machine that uses it first; see: ./inv machines")
    if named:
        return named[0]
    whole(f"address {name!r}", (), missing)
    others = ", ".join(sorted({address.name for address in found}))
    next_step = f"Reserved addresses: {others}" if others else "No address is reserved there."
    raise NotFoundError(f"address {name!r} not found on {where(cloud)}", next_step=next_step + other_regions(cloud))


def described(address: Resource) -> str:
    """Return a reserved address in words."""
    return f"address {address.name!r}" + (f" ({address.zone})" if address.zone else "")


def delete_address(cloud: Cloud, ledger: Ledger, address: Resource) -> None:
    """Release a reserved address."""
    remove(cloud, ledger, Kind.ADDRESS, address.name)
