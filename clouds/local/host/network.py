"""Whether machines can reach the internet from here: QEMU's user-mode network gives them IPv4 only.

IPv6 stays off. Turned on for hosts without IPv4 alone, it would need an address, a route and another name server in each guest:
libslirp passes queries to an IPv4 name server of the host for 10.0.2.3 and to an IPv6 one for its IPv6 address alone
(https://github.com/rootless-containers/rootlesskit/pull/438). Guests that are restored from memory, which were saved
on another network, would have none of these.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_UP, _REJECT = 0x0001, 0x0200  # include/uapi/linux/route.h
_HALVES = ("00000000", "00000080")  # the masks /0 and /1, little-endian: a VPN lays two routes of /1 over the default one
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def notices(proc: Path = Path("/proc/net"), environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a line for a host that has IPv6 only and no proxy set; nothing for others, also for one that is offline."""
    has_proxy = any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES)
    if has_proxy or _has_ipv4(_lines(proc / "route")) or not _has_ipv6(_lines(proc / "ipv6_route")):
        return []
    return [
        "this computer has no IPv4 route, and machines use IPv4 only: their downloads fail. "
        "Install clatd, or run a proxy here and set http_proxy and https_proxy (docs/hosts.md)."
    ]


def _has_ipv4(routes: list[list[str]]) -> bool:
    """Say whether a route leads outside (interface, destination, gateway, flags, 3 more, mask); True for an unknown form."""
    if not routes or routes[0][:2] != ["Iface", "Destination"]:
        return True
    return any(
        len(words) > 7 and words[7] in _HALVES and int(words[3], 16) & (_UP | _REJECT) == _UP and words[0] != "lo"
        for words in routes[1:]
    )


def _has_ipv6(routes: list[list[str]]) -> bool:
    """Say whether a default route exists (destination, its length, source, its length, gateway, 3 more, flags, interface)."""
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
