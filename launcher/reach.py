"""How a machine that has come up is reached: its host key is pinned, SSH answers, and its notebook answers here."""

from __future__ import annotations

from pathlib import Path

from clouds.driver import Launcher
from clouds.home import home
from clouds.undo import Undo
from launcher import identity, notebook, tunnel
from launcher.boot import Boot, ssh_answers
from launcher.notebook import NOTEBOOK_PORT


def await_answer(cloud: Launcher, boot: Boot, *, has_notebook: bool) -> str | None:
    """Pin the host key of a machine that has come up, wait until its service answers, and return its URL if that is a notebook."""
    identity.pin(home(), cloud.name, boot.machine, boot.host_key)
    return await_service(cloud, boot, has_notebook=has_notebook)


def await_service(cloud: Launcher, boot: Boot, *, has_notebook: bool) -> str | None:
    """Wait until a machine whose host key is pinned answers; return the URL of its notebook if it has one."""
    config = identity.sync(home(), cloud)
    if cloud.is_remote or not has_notebook:
        boot.await_answer(lambda: _ssh_answers(cloud, boot.machine), what="an answer of its SSH server")
    if not has_notebook:
        return None
    with Undo() as undo:
        undo.add(f"tunnel to {boot.machine}", lambda: tunnel.close(cloud, boot.machine), by_hand=f"./inv stop {boot.machine}")
        found = way_in(cloud, boot.machine, config)
        boot.await_answer(lambda: notebook.answers(found), what="an answer of its notebook")
        undo.release()
    return found


def way_in(cloud: Launcher, machine: str, config: Path) -> str:
    """Return the URL of a machine's notebook, through a tunnel where it takes one; `config` is the ssh config that knows it."""
    if cloud.is_remote:
        tunnel.open_tunnel(cloud, machine, config)
    return url(cloud, machine)


def url(cloud: Launcher, machine: str) -> str:
    """Return the URL of a machine's notebook as it is now. CloudError: it takes a tunnel, and none is open."""
    endpoint = tunnel.endpoint(cloud, machine, NOTEBOOK_PORT)
    return f"http://{endpoint.host}:{endpoint.port}/"


def _ssh_answers(cloud: Launcher, machine: str) -> bool:
    return ssh_answers(cloud.address(machine, identity.SSH_PORT))
