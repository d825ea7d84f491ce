"""Find and install the programs that the local cloud needs on this computer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from clouds.driver import Tell
from clouds.errors import MissingToolError
from clouds.local.host import computer
from clouds.local.host.computer import Computer, this_computer

_SBIN = "/usr/local/sbin:/usr/sbin:/sbin"


def _read_tools() -> dict[str, str]:
    lines = Path(__file__).with_name("tools").read_text(encoding="utf-8").splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


TOOLS = _read_tools()
"""Each required program (or file, by full path) and its Debian package; `inv` reads the same list."""

_WHY = "to build and run virtual machines"
_INSTALL_S = 900


def is_root() -> bool:
    """Return whether we run as root."""
    return os.geteuid() == 0


def missing_packages() -> list[str]:
    """Return the Debian packages to install for the local cloud, sorted."""
    return sorted({TOOLS[tool] for tool in missing_tools()})


def missing_tools() -> list[str]:
    """Return the missing programs and files, in the order of the list."""
    optional = {"newuidmap"} if is_root() else set()
    return [tool for tool in TOOLS if tool not in optional and not _is_there(tool)]


def _is_there(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else which(tool) is not None


def which(tool: str) -> str | None:
    """Find a program in PATH or in the folders of system programs, which are not in every user's PATH."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def ensure_tools(tell: Tell) -> None:
    """Install missing programs with apt-get. MissingToolError, with the command to run: we may not, or apt-get failed."""
    check_computer()
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
    """Return one error for everything that is missing (packages, permission for namespaces), with one command that fixes it."""
    from clouds.local.host import namespaces

    message, step = f"not installed: {', '.join(packages)} (needed {_WHY})", advice(packages)
    found = [] if is_root() else namespaces.obstacles()
    fixes = [fix for _, fix in found]
    if found:
        step += f" && {' && '.join(fixes)}" if all(fixes) and which("apt-get") else f" {namespaces.advice(fixes)}"
    return MissingToolError("; ".join([message, *(problem for problem, _ in found)]), next_step=step)


def install_command(packages: list[str] | None = None) -> str:
    """Return the command that installs packages (by default all that we need)."""
    chosen = sorted(set(TOOLS.values())) if packages is None else packages
    sudo = "" if is_root() else "sudo "
    return f"{sudo}apt-get install --no-install-recommends {' '.join(chosen)}"


def check_computer(this: Computer | None = None) -> None:
    """Raise MissingToolError if the local cloud cannot run on this computer, and cannot install what is missing.

    Changes nothing: `ensure_tools` installs Debian packages.
    """
    this = this or this_computer()
    if found := computer.misfit(this):
        raise MissingToolError(found[0], next_step=found[1])
    missing = [] if this.has_debian_packages else missing_tools()
    if missing:
        message = f"not installed: {', '.join(missing)} (needed {_WHY}); Bakehouse cannot install them on {this.distribution}"
        raise MissingToolError(message, next_step=computer.advice(this, missing))


def _as_root() -> list[str] | None:
    """Return the prefix that runs a command as root, or None if sudo would ask for a password."""
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
        raise MissingToolError(f"apt-get did not finish within {_INSTALL_S} s", next_step=advice(packages)) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingToolError(f"apt-get could not install {', '.join(packages)}: {''.join(last)}", next_step=advice(packages))


def advice(packages: list[str] | None = None) -> str:
    """Return how to install packages (by default all that we need)."""
    this = this_computer()
    if not this.has_debian_packages:
        return computer.advice(this, missing_tools())
    if which("apt-get"):
        return f"Install it: {install_command(packages)}"
    return f"Install QEMU and these programs with your package manager: {', '.join(sorted(TOOLS))}."
