"""Tunnels to notebooks on a remote cloud: OpenSSH forwards a port of this computer, one tunnel for each machine.

A tunnel is a plain ssh(1) in its own session, so it outlives the command that opened it. Its files are in
BAKEHOUSE_HOME/ssh/tunnels/ACCOUNT: MACHINE.json (process, start time, port) and MACHINE.log (ssh's messages). The record is
kept when a tunnel ends, so that the next one uses the same port and bookmarks stay valid; `forget` removes it.
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
"""How long a tunnel may take to open, in seconds; multiplied by the cloud's slowness."""
END_S = 5
TRIES = 3
"""Attempts to open a tunnel: another program may take the chosen port, or the SSH server of a booting machine may disconnect."""

_LOOPBACK = "127.0.0.1"
_PORT_TAKEN = "Could not request local forwarding"
_OPTIONS = ("ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ServerAliveCountMax=3")
"""ssh exits if it cannot listen on the port, and within a minute after the connection is lost."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A tunnel: its process, that one's start time (see `clouds.client`), its port, and the mark of its computer ("": this one)."""

    pid: int
    start: int
    port: int
    computer: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process runs on this computer; another one that has its number now does not count."""
        is_here = not self.computer or computer().is_that_of(self.computer)
        return is_here and self.start != 0 and process_start(self.pid) == self.start


def endpoint(cloud: Cloud, machine: str, port: int) -> Endpoint:
    """Return the address of a port of a machine, through its tunnel if one is needed. CloudError: no tunnel is open."""
    if port == SSH_PORT or not cloud.is_remote:
        return cloud.address(machine, port)
    tunnel = _read(_record(cloud, machine))
    if tunnel is None or not tunnel.is_alive:
        raise CloudError(f"machine {machine!r}: no tunnel is open", next_step=f"Open one: ./inv open {machine}")
    return Endpoint(_LOOPBACK, tunnel.port)


def open_tunnel(cloud: Cloud, machine: str, config: Path) -> Endpoint:
    """Return the local address of a machine's notebook, through its open tunnel or a new one.

    `config` is the ssh config that contains the machine. CloudError gives the reason why SSH cannot connect.
    """
    identity.check_known(home(), account_key(cloud), machine)
    ended: EndedError | None = None
    for _ in range(TRIES):
        if ended:
            _await_ssh(cloud, machine)
        with Undo() as undo:
            undo.add(f"tunnel to {machine}", lambda: close(cloud, machine), by_hand=f"./inv stop {machine}")
            with identity.locked(_folder(cloud)):
                tunnel = _alive_tunnel(cloud, machine) or _start(cloud, machine, config)
            try:
                is_open = _await_open(cloud, machine, tunnel)
            except EndedError as error:
                is_open, ended = False, error
            if is_open:
                undo.release()
                return Endpoint(_LOOPBACK, tunnel.port)
    message = f"machine {machine!r}: could not open a tunnel: other programs took the chosen port {TRIES} times in a row"
    raise ended or CloudError(message, next_step="Try again.")


def close(cloud: Cloud, machine: str) -> None:
    """Close a machine's tunnel; its record is kept, so that the next one uses the same port. No open tunnel is a success."""
    tunnel = _alive_tunnel(cloud, machine)
    if tunnel is None:
        return
    try:
        _end(tunnel, machine, signal.SIGTERM)
    except TimedOutError:
        _end(tunnel, machine, signal.SIGKILL)


def forget(cloud: Cloud, machine: str) -> None:
    """Close a machine's tunnel and remove its files."""
    close(cloud, machine)
    for path in (_record(cloud, machine), _log(cloud, machine)):
        path.unlink(missing_ok=True)
    older = _read(_older_record(cloud, machine))
    if older and not older.is_alive:
        _older_record(cloud, machine).unlink(missing_ok=True)


def sweep(cloud: Cloud) -> None:
    """Close the tunnels of stopped machines, and remove all files of deleted machines' tunnels."""
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


def _start(cloud: Cloud, machine: str, config: Path) -> Tunnel:
    """Start ssh and record its process."""
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
    process.returncode = 0  # it outlives this process; without this Python warns about it
    tunnel = Tunnel(process.pid, process_start(process.pid), port, computer().mark)
    write_private(_record(cloud, machine), json.dumps(asdict(tunnel)) + "\n")
    return tunnel


def _await_open(cloud: Cloud, machine: str, tunnel: Tunnel) -> bool:
    """Wait until a tunnel accepts connections; False: another program took its port. CloudError: ssh has exited."""
    outcome = until(
        lambda: ("open" if _accepts(tunnel.port) else None) if tunnel.is_alive else "ended",
        what=f"machine {machine!r}: tunnel to its notebook",
        timeout_s=OPEN_S * cloud.slowness,
        poll_s=0.05,
        poll_max_s=0.5,
    )
    if outcome == "open":
        return True
    log = _log(cloud, machine)
    said = clean(log.read_text(encoding="utf-8", errors="replace")).strip() if log.exists() else "its machine was deleted"
    if _PORT_TAKEN in said:
        return False
    explained = explain(said, machine=machine, endpoint=cloud.address(machine, SSH_PORT), is_remote=cloud.is_remote)
    next_step = f"Look at its console: ./inv log {machine}"
    raise explained or CloudError(f"machine {machine!r}: the tunnel to its notebook closed\n{said}", next_step=next_step)


def _await_ssh(cloud: Cloud, machine: str) -> None:
    endpoint, timeout_s = cloud.address(machine, SSH_PORT), OPEN_S * cloud.slowness
    until(lambda: ssh_answers(endpoint), what=f"machine {machine!r}: response of its SSH server", timeout_s=timeout_s, poll_s=1)


def _end(tunnel: Tunnel, machine: str, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(tunnel.pid, number)
    until(lambda: not tunnel.is_alive, what=f"machine {machine!r}: end of its tunnel", timeout_s=END_S, poll_s=0.02)


def _accepts(port: int) -> bool:
    """Return whether a port of this computer accepts connections: ssh listens once it has logged in."""
    with suppress(OSError), socket.create_connection((_LOOPBACK, port), timeout=5):
        return True
    return False


def _free_port(wanted: int) -> int:
    """Return the wanted port if it is free, else any other free one."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, wanted))
        except OSError:
            probe.bind((_LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _alive_tunnel(cloud: Cloud, machine: str) -> Tunnel | None:
    tunnel = _read(_record(cloud, machine))
    return tunnel if tunnel and tunnel.is_alive else None


def _read(record: Path) -> Tunnel | None:
    """Read the record of a tunnel, ignoring fields that another release has added; None if it is missing or unreadable."""
    try:
        noted = json.loads(record.read_text(encoding="utf-8"))
        return Tunnel(int(noted["pid"]), int(noted["start"]), int(noted["port"]), str(noted.get("computer", "")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _record(cloud: Cloud, machine: str) -> Path:
    return _folder(cloud) / f"{machine}.json"


def _older_record(cloud: Cloud, machine: str) -> Path:
    """Return the path of an older release's record, which is per cloud: its tunnel may lead to another account's machine.

    Only its port is used. A tunnel that is still open ends with its machine (ServerAlive).
    """
    return _folder(cloud).with_name(cloud_of(cloud.name)) / f"{machine}.json"


def _log(cloud: Cloud, machine: str) -> Path:
    return _folder(cloud) / f"{machine}.log"


def _folder(cloud: Cloud) -> Path:
    return home() / "ssh" / "tunnels" / account_key(cloud)
