"""The notice for a host that has IPv6 only, by its route tables (/proc/net/route and /proc/net/ipv6_route of Linux 6.1)."""

from __future__ import annotations

from pathlib import Path

import pytest

from clouds.local.host.network import notices

HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
DOCKER = "docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
UNREACHABLE = "*\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
VPN = "tun0\t00000000\t0101080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\ntun0\t00000080\t0101080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n"
CLAT = "clat\t00000000\t00000000\t0001\t0\t0\t2048\t00000000\t1260\t0\t0\n"
ZERO = "0" * 32
DEFAULT_6 = f"{ZERO} 00 {ZERO} 00 fe800000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n"
REJECT_6 = f"{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo\n"
LINK_6 = f"fe800000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000002 00000000 00000001     eth0\n"


def told(folder: Path, route: str, ipv6_route: str, **environ: str) -> list[str]:
    """Return the notices for these tables."""
    (folder / "route").write_text(HEADER + route)
    (folder / "ipv6_route").write_text(ipv6_route)
    return notices(folder, environ)


@pytest.mark.parametrize("route", ["", DOCKER, UNREACHABLE])
def test_host_with_ipv6_only_is_told_what_to_do(tmp_path: Path, route: str) -> None:
    (line,) = told(tmp_path, route, LINK_6 + DEFAULT_6 + REJECT_6)
    assert "no IPv4 route" in line
    assert "clatd" in line
    assert "http_proxy" in line
    assert "\n" not in line


@pytest.mark.parametrize("route", [DEFAULT, DOCKER + DEFAULT, VPN, CLAT])
def test_host_with_ipv4_hears_nothing(tmp_path: Path, route: str) -> None:
    assert told(tmp_path, route, DEFAULT_6 + REJECT_6) == []


def test_host_that_is_offline_hears_nothing(tmp_path: Path) -> None:
    assert told(tmp_path, "", LINK_6 + REJECT_6) == []


@pytest.mark.parametrize("name", ["https_proxy", "HTTP_PROXY", "all_proxy"])
def test_host_with_a_proxy_hears_nothing(tmp_path: Path, name: str) -> None:
    assert told(tmp_path, "", DEFAULT_6, **{name: "http://127.0.0.1:3128"}) == []


def test_host_without_these_tables_hears_nothing(tmp_path: Path) -> None:
    assert notices(tmp_path, {}) == []
