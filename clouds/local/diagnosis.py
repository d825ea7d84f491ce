"""What `doctor` checks of the local cloud: programs, accelerator, log-out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from clouds.findings import Check, Finding, Health, ok
from clouds.local.host.programs import install_command, missing_packages

if TYPE_CHECKING:
    from clouds.local.driver import LocalCloud


def checks(cloud: LocalCloud) -> Mapping[str, Check]:
    """Return the checks. That of the computer is first: without its programs there is no accelerator to try."""
    return {"computer": lambda: _computer(cloud), "accelerator": lambda: _accelerator(cloud), "log-out": lambda: _logout(cloud)}


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


def _warnings(notices: list[str]) -> list[Finding]:
    """Return notices as findings: the first sentence of each is the fact, the others are the fix."""
    return [Finding(Health.WARNING, text, fix) for text, _, fix in (line.partition(". ") for line in notices)]
