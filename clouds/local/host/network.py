"""Check whether machines can reach the internet from here: QEMU's user-mode network gives them IPv4 only.

IPv6 stays off. On a host without IPv4 it would need an address, a route and another name server in each guest: libslirp forwards
queries for 10.0.2.3 to an IPv4 name server of the host, and those for its IPv6 address to an IPv6 one
(https://github.com/rootless-containers/rootlesskit/pull/438). Guests restored from memory that was saved on another network
would have none of these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_UP, _REJECT = 0x0001, 0x0200  # include/uapi/linux/route.h
_HALVES = ("00000000", "00000080")  # the masks /0 and /1, little-endian: a VPN overrides the default route with two /1 routes
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def notices(proc: Path = Path("/proc/net"), environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a warning if this host has only IPv6 and no proxy; nothing if it is offline."""
    has_proxy = any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES)
    if has_proxy or _has_ipv4(_lines(proc / "route")) or not _has_ipv6(_lines(proc / "ipv6_route")):
        return []
    return [
        "this computer has no IPv4 route, but machines support IPv4 only: their downloads will fail. "
        "Install clatd, or run a proxy here and set http_proxy and https_proxy (docs/hosts.md)."
    ]


def _has_ipv4(routes: list[list[str]]) -> bool:
    """Return whether a default route exists (interface, destination, gateway, flags, 3 more, mask); True for an unknown format."""
    if not routes or routes[0][:2] != ["Iface", "Destination"]:
        return True
    return any(
        len(words) > 7 and words[7] in _HALVES and int(words[3], 16) & (_UP | _REJECT) == _UP and words[0] != "lo"
        for words in routes[1:]
    )


def _has_ipv6(routes: list[list[str]]) -> bool:
    """Return whether a default route exists (destination, its length, source, its length, gateway, 3 more, flags, interface)."""
    return any(
        len(words) > 9
        and words[1] in ("00", "01", "03")  # 2000::/3 is what some routers announce
        and int(words[8], 16) & (_UP | _REJECT) == _UP
        and words[9] != "lo"
        for words in routes
    )


def _lines(path: Path) -> list[list[str]]:
    try:
        return [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
