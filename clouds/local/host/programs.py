"""The programs that the local cloud needs on this computer, and their installation."""

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
"""Each program (or file, by its full path) that is needed, and the Debian package that holds it; `inv` reads the same list."""

_WHY = "to build and run virtual machines"
_INSTALL_S = 900


def is_root() -> bool:
    """Say whether we may do anything on this computer."""
    return os.geteuid() == 0


def missing_packages() -> list[str]:
    """Return the Debian packages that the local cloud lacks on this computer, sorted."""
    return sorted({TOOLS[tool] for tool in missing_tools()})


def missing_tools() -> list[str]:
    """Return the programs and files that the local cloud lacks on this computer, in the order of the list."""
    needless = {"newuidmap"} if is_root() else set()
    return [tool for tool in TOOLS if tool not in needless and not _is_there(tool)]


def _is_there(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else which(tool) is not None


def which(tool: str) -> str | None:
    """Find a program, also among those for administrators, which are not in everybody's path."""
    return shutil.which(tool, path=f"{os.environ.get('PATH', '')}:{_SBIN}")


def ensure_tools(tell: Tell) -> None:
    """Install what is missing. Raises MissingToolError, with the command, where we may not or cannot."""
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
    """Return the error that names all that is missing at once, with one command for it: packages, and the right to namespaces."""
    from clouds.local.host import namespaces

    message, step = f"not installed: {', '.join(packages)} (needed {_WHY})", advice(packages)
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


def check_computer(this: Computer | None = None) -> None:
    """Raise MissingToolError where the local cloud cannot run on this computer, nor install what would make it run.

    The installation of Debian's packages is left to `ensure_tools`: nothing is changed here.
    """
    this = this or this_computer()
    if found := computer.misfit(this):
        raise MissingToolError(found[0], next_step=found[1])
    missing = [] if this.has_debian_packages else missing_tools()
    if missing:
        message = f"not installed: {', '.join(missing)} (needed {_WHY}); Bakehouse cannot install them on {this.distribution}"
        raise MissingToolError(message, next_step=computer.advice(this, missing))


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
        raise MissingToolError(f"apt-get did not end within {_INSTALL_S} s", next_step=advice(packages)) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingToolError(f"apt-get could not install {', '.join(packages)}: {''.join(last)}", next_step=advice(packages))


def advice(packages: list[str] | None = None) -> str:
    """Return how a user installs packages (all that we need, when none are named)."""
    this = this_computer()
    if not this.has_debian_packages:
        return computer.advice(this, missing_tools())
    if which("apt-get"):
        return f"Install it: {install_command(packages)}"
    return f"Install QEMU and these programs with your system's packages: {', '.join(sorted(TOOLS))}."
