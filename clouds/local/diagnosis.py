"""What `doctor` checks of the local cloud: programs, accelerator, log-out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from clouds.findings import Check, Finding, Health, ok
from clouds.local.host.programs import install_command, missing_packages
from clouds.mirrors import host_mirrors

if TYPE_CHECKING:
    from clouds.local.driver import LocalCloud

_ARCHIVE_S = 10
"""How long to wait for an answer, in seconds."""


def checks(cloud: LocalCloud) -> Mapping[str, Check]:
    """Return the checks. That of the computer is first: without its programs there is no accelerator to try."""
    return {
        "computer": lambda: _computer(cloud),
        "accelerator": lambda: _accelerator(cloud),
        "log-out": lambda: _logout(cloud),
        "archive": _archive,
    }


def _computer(cloud: LocalCloud) -> list[Finding]:
    cloud.check_computer()
    if missing := missing_packages():
        text = f"not installed: {', '.join(missing)}; the first bake installs them if you may"
        return [Finding(Health.WARNING, text, f"Run: {install_command(missing)}")]
    return ok("all programs that bakes and machines need are installed")


def _accelerator(cloud: LocalCloud) -> list[Finding]:
    return _warnings(cloud.notices()) or ok(f"machines run on {cloud.accelerator_name}")


def _logout(cloud: LocalCloud) -> list[Finding]:
    return _warnings(cloud.logout_notices()) or ok("machines continue after you log out")


def _archive() -> list[Finding]:
    """Look for Debian's archive, from which a base is built. A failure is no certain problem: apt may have a proxy of its own."""
    import requests

    mirror = host_mirrors().debian
    shown = re.sub("//[^/]*@", "//", mirror)
    try:
        requests.head(f"{mirror}/dists/trixie/InRelease", timeout=_ARCHIVE_S, allow_redirects=True).raise_for_status()
    except (OSError, ValueError) as error:  # requests' own are of these classes
        why = type(error).__name__
        fix = "Check the network, http_proxy and https_proxy, and the mirror in this computer's apt sources."
        return [Finding(Health.WARNING, f"Debian's archive does not answer at {shown} ({why}): no base can be built", fix)]
    return ok(f"Debian's archive answers at {shown}")


def _warnings(notices: list[str]) -> list[Finding]:
    """Return notices as findings: the first sentence of each is the fact, the others are the fix."""
    return [Finding(Health.WARNING, text, fix) for text, _, fix in (line.partition(". ") for line in notices)]
