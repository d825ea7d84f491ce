"""How a machine that has come up is reached: its keys are pinned, SSH answers, and its notebook answers at a URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import Admits
from clouds.driver import Cloud, Tell
from clouds.errors import CloudError, UsageError
from clouds.home import home
from clouds.undo import Undo
from launcher.access import identity, notebook, tunnel
from launcher.access.notebook import NOTEBOOK_PORT
from launcher.boot import Boot, ssh_answers


def admit(cloud: Cloud, machine: str, tell: Tell, source: str = "") -> None:
    """Let this computer, or `source`, reach a machine where a firewall stands before it, and say what has changed.

    UsageError: a source was given, and the cloud has no firewall. A firewall that cannot be asked is an error only then.
    """
    if not isinstance(cloud, Admits):
        if source:
            raise UsageError(f"--source: the cloud {cloud.name} has none (leave it out, or choose another --cloud)")
        return
    try:
        told = cloud.admit(machine, source)
    except CloudError as error:
        if source:
            raise
        told = f"firewall of machine {machine}: not checked: {error.message}"
    if told:
        tell(told)


def await_answer(cloud: Cloud, boot: Boot, labels: Mapping[str, str]) -> str | None:
    """Pin the keys of a machine that has come up, wait until its service answers, and return its URL if that is a notebook.

    `labels` are the machine's: `notebook` says whether it has one, `https` at which port that is open, if it is.
    """
    identity.pin(home(), account_key(cloud), boot.machine, boot.host_key)
    if https_port(labels):
        boot.await_answer(lambda: bool(boot.certificate), what="the fingerprint of its certificate")
        identity.pin_certificate(home(), account_key(cloud), boot.machine, boot.certificate)
    return await_service(cloud, boot, labels)


def await_service(cloud: Cloud, boot: Boot, labels: Mapping[str, str]) -> str | None:
    """Wait until a machine whose keys are pinned answers; return the URL of its notebook if it has one."""
    config, has_notebook = identity.sync(home(), cloud), labels.get("notebook") == "1"
    if cloud.is_remote or not has_notebook:
        boot.await_answer(lambda: _ssh_answers(cloud, boot.machine), what="an answer of its SSH server")
    if not has_notebook:
        return None
    with Undo() as undo:
        undo.add(f"tunnel to {boot.machine}", lambda: tunnel.close(cloud, boot.machine), by_hand=f"./inv stop {boot.machine}")
        found, certificate = way_in(cloud, boot.machine, labels, config), fingerprint(cloud, boot.machine, labels)
        boot.await_answer(lambda: notebook.answers(found, fingerprint=certificate), what="an answer of its notebook")
        undo.release()
    return found


def way_in(cloud: Cloud, machine: str, labels: Mapping[str, str], config: Path) -> str:
    """Return the URL of a machine's notebook, through a tunnel where it takes one; `config` is the ssh config that knows it."""
    if cloud.is_remote and not https_port(labels):
        tunnel.open_tunnel(cloud, machine, config)
    return url(cloud, machine, labels)


def url(cloud: Cloud, machine: str, labels: Mapping[str, str]) -> str:
    """Return the URL of a machine's notebook as it is now. CloudError: it takes a tunnel, and none is open."""
    if port := https_port(labels):
        endpoint = cloud.address(machine, port)
        return f"https://{endpoint.host}:{endpoint.port}/"
    endpoint = tunnel.endpoint(cloud, machine, NOTEBOOK_PORT)
    return f"http://{endpoint.host}:{endpoint.port}/"


def fingerprint(cloud: Cloud, machine: str, labels: Mapping[str, str]) -> str:
    """Return the pinned fingerprint of the certificate of a machine's notebook, "" where that speaks no TLS."""
    return identity.certificate(home(), account_key(cloud), machine) if https_port(labels) else ""


def https_port(labels: Mapping[str, str]) -> int:
    """Return the port at which a machine's notebook is open with TLS; 0: it is not."""
    return names.number(labels, "https")


def _ssh_answers(cloud: Cloud, machine: str) -> bool:
    return ssh_answers(cloud.address(machine, identity.SSH_PORT))
