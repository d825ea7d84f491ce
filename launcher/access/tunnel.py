"""The way to a notebook on a remote cloud: an OpenSSH tunnel from a port of this computer, one for each machine.

It is a plain ssh(1) in a session of its own, so it outlives the command that opened it. BAKEHOUSE_HOME/ssh/tunnels/ACCOUNT
holds what is known of it: MACHINE.json (process, when that started, port) and MACHINE.log (what ssh has said). The record
stays when a tunnel ends, so that the next one has the same port and a bookmark stays right; `forget` drops it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from clouds import names
from clouds.accounts import account_key, cloud_of
from clouds.client import computer, process_start
from clouds.driver import Cloud, Endpoint, Kind, State
from clouds.errors import CloudError, TimedOutError
from clouds.home import home, write_private
from clouds.incomplete import partly
from clouds.undo import Undo
from clouds.waiter import until
from launcher.access import identity
from launcher.access.identity import SSH_PORT
from launcher.access.notebook import NOTEBOOK_PORT
from launcher.access.ssh_errors import EndedError, explain
from launcher.boot import ssh_answers
from launcher.clean import clean

OPEN_S = 60
"""How long a tunnel may take to come up; multiplied by the cloud's slowness."""
END_S = 5
TRIES = 3
"""How often somebody may take the chosen port from under us, or the SSH server of a machine that boots end the connection."""

_LOOPBACK = "127.0.0.1"
_PORT_TAKEN = "Could not request local forwarding"
_OPTIONS = ("ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3")
"""A tunnel without its port is none, and one that is cut ends within a minute."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel: its process, when that started (see `clouds.client`), its port, and the mark of its computer ("": this one)."""

    pid: int
    start: int
    port: int
    computer: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process runs on this computer, and is no other that has its number now."""
        is_here = not self.computer or computer().is_that_of(self.computer)
        return is_here and self.start != 0 and process_start(self.pid) == self.start


def endpoint(cloud: Cloud, machine: str, port: int) -> Endpoint:
    """Return where a port of a machine answers, through its tunnel where one is needed. CloudError: none is open."""
    if port == SSH_PORT or not cloud.is_remote:
        return cloud.address(machine, port)
    tunnel = _read(_record(cloud, machine))
    if tunnel is None or not tunnel.is_alive:
        raise CloudError(f"machine {machine}: no tunnel to it is open", next_step=f"Open one: ./inv open {machine}")
    return Endpoint(_LOOPBACK, tunnel.port)


def open_tunnel(cloud: Cloud, machine: str, config: Path) -> Endpoint:
    """Return where a machine's notebook answers on this computer, through the tunnel that lives or a new one.

    `config` is the ssh config that knows the machine. Raises CloudError, which says why SSH does not get in.
    """
    identity.check_known(home(), account_key(cloud), machine)
    ended: EndedError | None = None
    for _ in range(TRIES):
        if ended:
            _await_ssh(cloud, machine)
        with Undo() as undo:
            undo.add(f"tunnel to {machine}", lambda: close(cloud, machine), by_hand=f"./inv stop {machine}")
            with identity.locked(_folder(cloud)):
                tunnel = _living(cloud, machine) or _begin(cloud, machine, config)
            try:
                is_up = _comes_up(cloud, machine, tunnel)
            except EndedError as error:
                is_up, ended = False, error
            if is_up:
                undo.release()
                return Endpoint(_LOOPBACK, tunnel.port)
    raise ended or CloudError(f"machine {machine}: {TRIES} ports in a row were taken by others", next_step="Try again.")


def close(cloud: Cloud, machine: str) -> None:
    """End a machine's tunnel; its port is remembered for the next. No tunnel is a success."""
    tunnel = _living(cloud, machine)
    if tunnel is None:
        return
    try:
        _end(tunnel, machine, signal.SIGTERM)
    except TimedOutError:
        _end(tunnel, machine, signal.SIGKILL)


def forget(cloud: Cloud, machine: str) -> None:
    """End a machine's tunnel and leave nothing of it."""
    close(cloud, machine)
    for path in (_record(cloud, machine), _log(cloud, machine)):
        path.unlink(missing_ok=True)
    older = _read(_older_record(cloud, machine))
    if older and not older.is_alive:
        _older_record(cloud, machine).unlink(missing_ok=True)


def sweep(cloud: Cloud) -> None:
    """End the tunnels to machines that are off, and forget those to machines that are gone."""
    if not any(_folder(cloud).glob("*.json")):
        return
    found, missing = partly(lambda: cloud.owned({"project": names.PROJECT}, {Kind.MACHINE}))
    states = {resource.name: resource.state for resource in found}
    for record in sorted(_folder(cloud).glob("*.json")):
        if record.stem not in states and missing:
            continue
        if record.stem not in states:
            forget(cloud, record.stem)
        elif states[record.stem] not in (State.STARTING, State.RUNNING):
            close(cloud, record.stem)


def _begin(cloud: Cloud, machine: str, config: Path) -> Tunnel:
    """Start ssh and write down which process that is."""
    last = _read(_record(cloud, machine)) or _read(_older_record(cloud, machine))
    port = _free_port(last.port if last else 0)
    options = [word for option in _OPTIONS for word in ("-o", option)]
    forward = f"{_LOOPBACK}:{port}:{_LOOPBACK}:{NOTEBOOK_PORT}"
    log = os.open(_log(cloud, machine), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with identity.openssh():
            process = subprocess.Popen(
                ["ssh", "-N", "-F", str(config), *options, "-L", forward, machine],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
    finally:
        os.close(log)
    process.returncode = 0  # it is to outlive us, of which Python would complain
    tunnel = Tunnel(process.pid, process_start(process.pid), port, computer().mark)
    write_private(_record(cloud, machine), json.dumps(asdict(tunnel)) + "\n")
    return tunnel


def _comes_up(cloud: Cloud, machine: str, tunnel: Tunnel) -> bool:
    """Wait until a tunnel accepts connections; False: its port was taken by somebody else. CloudError: ssh has given up."""
    up = until(
        lambda: ("up" if _accepts(tunnel.port) else None) if tunnel.is_alive else "ended",
        what=f"machine {machine}: the tunnel to its notebook",
        timeout_s=OPEN_S * cloud.slowness,
        poll_s=0.05,
        poll_max_s=0.5,
    )
    if up == "up":
        return True
    log = _log(cloud, machine)
    said = clean(log.read_text(encoding="utf-8", errors="replace")).strip() if log.exists() else "its machine was deleted"
    if _PORT_TAKEN in said:
        return False
    explained = explain(said, machine=machine, endpoint=cloud.address(machine, SSH_PORT), is_remote=cloud.is_remote)
    next_step = f"Look at its console: ./inv log {machine}"
    raise explained or CloudError(f"machine {machine}: the tunnel to its notebook has ended\n{said}", next_step=next_step)


def _await_ssh(cloud: Cloud, machine: str) -> None:
    endpoint, timeout_s = cloud.address(machine, SSH_PORT), OPEN_S * cloud.slowness
    until(lambda: ssh_answers(endpoint), what=f"machine {machine}: an answer of its SSH server", timeout_s=timeout_s, poll_s=1)


def _end(tunnel: Tunnel, machine: str, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(tunnel.pid, number)
    until(lambda: not tunnel.is_alive, what=f"end of the tunnel to {machine}", timeout_s=END_S, poll_s=0.02)


def _accepts(port: int) -> bool:
    """Say whether a port of this computer accepts connections: ssh listens once it is let in."""
    with suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=5):
        return True
    return False


def _free_port(wanted: int) -> int:
    """Return the wanted port when nobody has it, else any other that is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, wanted))
        except OSError:
            probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _living(cloud: Cloud, machine: str) -> Tunnel | None:
    tunnel = _read(_record(cloud, machine))
    return tunnel if tunnel and tunnel.is_alive else None


def _read(record: Path) -> Tunnel | None:
    """Return what is noted of a tunnel, whatever another release has added; None for what is absent or cannot be read."""
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
        return Tunnel(int(noted["pid"]), int(noted["start"]), int(noted["port"]), str(noted.get("computer", "")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _record(cloud: Cloud, machine: str) -> Path:
    return _folder(cloud) / f"{machine}.json"


def _older_record(cloud: Cloud, machine: str) -> Path:
    """Return where an older release noted a tunnel: for the cloud as a whole, so that it may lead to another account's machine.

    Only its port is taken over. A tunnel that still runs ends by itself when its machine does (ServerAlive).
    """
    return _folder(cloud).with_name(cloud_of(cloud.name)) / f"{machine}.json"


def _log(cloud: Cloud, machine: str) -> Path:
    return _folder(cloud) / f"{machine}.log"


def _folder(cloud: Cloud) -> Path:
    return home() / "ssh" / "tunnels" / account_key(cloud)
