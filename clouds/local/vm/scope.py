"""Run each machine's QEMU in its own systemd scope, and find out whether machines end when their user logs out.

systemd-logind stops a user's manager, user@UID.service, with all its processes 10 s (UserStopDelaySec) after the last logout,
unless lingering is enabled: systemd-run(1), example 5; logind.conf(5); `user_may_gc` in systemd's src/login/logind-user.c.
Desktops start terminals under that manager, each in a cgroup that systemd-oomd kills as a whole: systemd-oomd.service(8).
"""

from __future__ import annotations

import os
import pwd
import re
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from clouds.local.host.programs import which

_ROOT = Path("/")
_RUN = "systemd-run"
_REFUSED_S = 10.0
"""How long systemd-run may take to create a scope; usually some 10 ms."""


def scope_command(machine: str, root: Path = _ROOT) -> list[str]:
    """Return the command prefix that runs a command in its own scope; empty if a scope would not help the machine.

    Without lingering, a machine started over SSH or at a text console stays in the scope of that session, which survives the
    logout if KillUserProcesses=no (`session_stop_scope` in src/login/logind-session.c); a new scope would not.
    https://github.com/tmux/tmux/issues/428 describes both.
    `root`: the folder that contains /run, /proc and /var, for tests.
    """
    runtime = root / f"run/user/{os.geteuid()}"
    program = which(_RUN)
    # systemd-run connects to this socket first, even without a user D-Bus: `bus_connect_user_systemd` in bus-util.c
    has_manager = (root / "run/systemd/system").exists() and (runtime / "systemd/private").exists()
    if not (program and has_manager and (_is_lingering(os.geteuid(), root) or _manager_uid(root) == os.geteuid())):
        return []
    # No --unit: a machine's name can be reused before its old scope is gone, and other stores may have machines of that name.
    options = ("--user", "--scope", "--quiet", "--collect", f"--description=Bakehouse machine {machine}")
    return ["env", f"XDG_RUNTIME_DIR={runtime}", program, *options, "--"]


def logout_notices(root: Path = _ROOT) -> list[str]:
    """Return a warning, with the fix, if machines started from here end at logout."""
    uid = _manager_uid(root)
    if uid is None or _is_lingering(uid, root):
        return []
    fix = f"loginctl enable-linger {_user_name(uid)}"
    return [f"the machine stops about 10 s after your last logout from this computer. To keep it running: {fix}"]


def start_in_scope(
    scope: Sequence[str], command: Sequence[str], folder: Path, log: str, environment: Mapping[str, str]
) -> subprocess.Popen[bytes] | None:
    """Start a command in a folder with a `scope_command`; return its process, or None if systemd-run failed and nothing runs.

    systemd-run replaces itself with the command, so the pid stays (`start_transient_scope` in src/run/run.c). A shell in between
    reports the start on its output, since the exit status does not distinguish a failure of systemd-run from one of QEMU. The
    messages of systemd-run are dropped; `log`, a file in that folder, gets only those of the command.
    """
    # Newer versions of systemd-run expand ${NAME} in the arguments of a command, but not $@ or $NAME inside an argument.
    reporting = ["sh", "-c", f'echo; exec "$@" >{log} 2>&1', "sh", *command]
    process = subprocess.Popen(
        [*scope, *reporting],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
        bufsize=0,
    )
    if _has_reported(process):
        return process
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # a hanging systemd-run must not start the command later
    process.wait()
    return None


def _has_reported(process: subprocess.Popen[bytes]) -> bool:
    """Wait for a byte on a process's output. False: it exited without output, or timed out."""
    if process.stdout is None:
        return False
    with process.stdout as output:
        return bool(select.select([output], [], [], _REFUSED_S)[0] and output.read(1))


def _manager_uid(root: Path) -> int | None:
    """Return the uid of the user manager that we run under, from /proc/self/cgroup (cgroups(7)), or None."""
    try:
        cgroups = (root / "proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"/user@(\d+)\.service(/|$)", cgroups, re.MULTILINE)
    return int(found[1]) if found else None


def _is_lingering(uid: int, root: Path) -> bool:
    """Return whether lingering is enabled for a user: `user_check_linger_file` in src/login/logind-user.c."""
    return (root / "var/lib/systemd/linger" / _user_name(uid)).exists()


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
