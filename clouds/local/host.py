"""The programs that the local cloud needs on this computer, and their installation."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

from clouds.driver import Tell
from clouds.errors import MissingToolError

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def _read_tools() -> dict[str, str]:
    lines = Path(__file__).with_name("tools").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


TOOLS = _read_tools()
"""Each program (or file, by its full path) that is needed, and the Debian package that holds it; `inv` reads the same list."""

_WHY = "to build and run virtual machines"
_INSTALL_S = 900


def is_root() -> bool:
    """Say whether we may do anything on this computer."""
    return os.geteuid() == 0


def missing_packages() -> list[str]:
    """Return the Debian packages that the local cloud lacks on this computer, sorted."""
    needless = {"newuidmap"} if is_root() else set()
    return sorted({package for tool, package in TOOLS.items() if tool not in needless and not _is_there(tool)})


def _is_there(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else which(tool) is not None


def which(tool: str) -> str | None:
    """Find a program, also among those for administrators, which are not in everybody's path."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def ensure_tools(tell: Tell) -> None:
    """Install what is missing. Raises MissingToolError, with the command, where we may not or cannot."""
    _check_computer()
    packages = missing_packages()
    if not packages:
        return
    prefix = _as_root()
    if prefix is None or which("apt-get") is None:
        raise _missing(packages)
    tell(f"installing {', '.join(packages)} with apt-get, {_WHY}")
    _apt_get([*prefix, "apt-get", "--quiet", "update"], packages)
    _apt_get([*prefix, "apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *packages], packages)


def _missing(packages: list[str]) -> MissingToolError:
    """Return the error that names all that is missing at once, with one command for it: packages, and the right to namespaces."""
    from clouds.local import namespaces

    message, step = f"not installed: {', '.join(packages)} (needed {_WHY})", _advice(packages)
    found = [] if is_root() else namespaces.obstacles()
    fixes = [fix for _, fix in found]
    if found:
        step += f" && {' && '.join(fixes)}" if all(fixes) and which("apt-get") else f" {namespaces.advice(fixes)}"
    return MissingToolError("; ".join([message, *(problem for problem, _ in found)]), next_step=step)


def install_command(packages: list[str] | None = None) -> str:
    """Return the command by which a user installs packages (all that we need, when none are named)."""
    chosen = sorted(set(TOOLS.values())) if packages is None else packages
    sudo = "" if is_root() else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(chosen)}"


def _check_computer() -> None:
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine != "x86_64":
        raise MissingToolError(
            f"the local cloud runs on Linux on x86-64 only, and this is {system} on {machine}",
            next_step="Use a Debian or Ubuntu PC, or a virtual machine in a cloud, to bake and launch.",
        )


def _as_root() -> list[str] | None:
    """Return what to put before a command to run it as root, or None when that would ask for a password."""
    if is_root():
        return []
    if which("sudo") is None:
        return None
    allowed = subprocess.run(["sudo", "--non-interactive", "true"], capture_output=True, timeout=30, check=False)
    return ["sudo", "--non-interactive"] if allowed.returncode == 0 else None


def _apt_get(argv: list[str], packages: list[str]) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            timeout=_INSTALL_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MissingToolError(f"apt-get did not end within {_INSTALL_S} s", next_step=_advice(packages)) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingToolError(f"apt-get could not install {', '.join(packages)}: {''.join(last)}", next_step=_advice(packages))


def _advice(packages: list[str]) -> str:
    if which("apt-get"):
        return f"Install it: {install_command(packages)}"
    return f"Install QEMU and these programs with your system's packages: {', '.join(sorted(TOOLS))}."
