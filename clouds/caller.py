"""The addresses that a firewall admits to a machine: those that a user specifies, by default this computer's public address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import urlopen

from clouds.errors import CloudError, UsageError

_WHO_AM_I = "https://checkip.amazonaws.com"
_WHO_AM_I_S = 10


def own_address() -> str:
    """Return this computer's public address. CloudError: the service that reports it does not answer, or something else does."""
    return look_outside()[0]


def look_outside() -> tuple[str, float | None]:
    """Return this computer's public address, and the time elsewhere, in seconds since the epoch (None: not in the answer).

    CloudError as above.
    """
    try:
        with urlopen(_WHO_AM_I, timeout=_WHO_AM_I_S) as answer:
            address = str(ipaddress.ip_address(answer.read(64).decode("ascii").strip()))
            date = answer.headers.get("Date")
            return address, parsedate_to_datetime(date).timestamp() if date else None
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise CloudError(
            f"cannot look up the address of this computer for the firewall rule: no answer from {_WHO_AM_I}",
            next_step="Specify it: --source 203.0.113.7",
        ) from error


def as_range(text: str) -> str:
    """Return an address or range as CIDR. UsageError: not valid."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise UsageError(
            f"source {text!r} is not an IP address or range", next_step="Write it as 203.0.113.7 or 203.0.113.0/24."
        ) from None


def admits(ranges: Iterable[str], source: str) -> bool:
    """Return whether one of these ranges (CIDR) contains the whole range `source`."""
    wanted = ipaddress.ip_network(source)
    found = [ipaddress.ip_network(text, strict=False) for text in ranges]
    return any(one.version == wanted.version and wanted.subnet_of(one) for one in found)  # type: ignore[arg-type]


def has_wide_range(ranges: Iterable[str]) -> bool:
    """Return whether one of these ranges holds more than a single address, which somebody must have chosen."""
    return any(ipaddress.ip_network(text, strict=False).num_addresses > 1 for text in ranges)
