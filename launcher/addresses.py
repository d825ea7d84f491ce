"""Addresses that `launch --static-ip` has reserved: list them, find one and release it."""

from __future__ import annotations

from clouds import names
from clouds.driver import Cloud, Kind, Resource, State
from clouds.errors import ConflictError, NotFoundError
from clouds.incomplete import partly, whole
from clouds.ledger import Ledger
from clouds.lifecycle import remove
from launcher.regions import other_regions, where


def reserved(cloud: Cloud) -> list[Resource]:
    """Return all reserved addresses: they belong to the project, whoever has reserved them."""
    return cloud.owned({"project": names.PROJECT}, {Kind.ADDRESS})


def unused(cloud: Cloud) -> list[Resource]:
    """Return the reserved addresses that no machine uses. UnreachableError: as for `Cloud.owned`."""
    if "static_ip" not in cloud.grants:
        return []
    found, missing = partly(lambda: reserved(cloud))
    return whole("addresses", [address for address in found if address.state is not State.RUNNING], missing)


def find_address(cloud: Cloud, name: str) -> Resource:
    """Return a reserved address that nothing uses, by its name, or by REGION/NAME if several regions have one of this name.

    NotFoundError: no such address. ConflictError: it is in use, or several have this name. UnreachableError: it may be in a part of
    the cloud that did not respond.
    """
    found, missing = partly(lambda: reserved(cloud))
    region, _, plain = name.rpartition("/")
    named = [address for address in found if address.name == plain and region in ("", address.zone)]
    if len(regions := sorted({address.zone for address in named})) > 1:
        raise ConflictError(
            f"address {name!r}: there is one in each of the regions {', '.join(regions)}",
            next_step=f"Name the region too: ./inv delete-address {regions[0]}/{name}",
        )
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
    remove(cloud, ledger, Kind.ADDRESS, address.name, address.zone)
