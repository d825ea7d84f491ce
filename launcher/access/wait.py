"""Connect to a machine that has started: pin its keys, wait until SSH and its notebook respond, return the URL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from clouds import names
from clouds.accounts import account_key
from clouds.capabilities import Admits
from clouds.driver import Cloud, Tell
from clouds.errors import CloudError, UsageError, not_supported
from clouds.home import home
from clouds.undo import Undo
from launcher.access import identity, notebook, tunnel
from launcher.access.notebook import NOTEBOOK_PORT
from launcher.boot import Boot, ssh_answers


def admit(cloud: Cloud, machine: str, tell: Tell, source: str = "") -> None:
    """Allow this computer, or `source`, through a machine's firewall if the cloud has one; print what has changed.

    UsageError: a source was given, but the cloud has no firewall. Failing to check the firewall is an error only with a source.
    """
    if not isinstance(cloud, Admits):
        if source:
            raise UsageError(not_supported("--source", cloud.name))
        return
    try:
        change = cloud.admit(machine, source)
    except CloudError as error:
        if source:
            raise
        change = f"machine {machine!r}: could not check its firewall: {error.message}"
    if change:
        tell(change)


def await_answer(cloud: Cloud, boot: Boot, labels: Mapping[str, str]) -> str | None:
    """Pin the keys of a started machine and wait until its service responds; return the URL of its notebook, None without one.

    `labels` are the machine's: `notebook` says whether it has one, `https` is the port on which that is open with TLS, if any.
    """
    identity.pin(home(), account_key(cloud), boot.machine, boot.host_key)
    pin_certificate(cloud, boot, labels)
    return await_service(cloud, boot, labels)


def pin_certificate(cloud: Cloud, boot: Boot, labels: Mapping[str, str]) -> None:
    """Wait until a machine has reported the certificate of its notebook, if that uses TLS, and pin it."""
    if https_port(labels):
        boot.await_answer(lambda: bool(boot.certificate), what="fingerprint of its certificate")
        identity.pin_certificate(home(), account_key(cloud), boot.machine, boot.certificate)


def await_service(cloud: Cloud, boot: Boot, labels: Mapping[str, str]) -> str | None:
    """Wait until a machine whose keys are pinned responds; return the URL of its notebook, None without one."""
    config, has_notebook = identity.sync(home(), cloud), labels.get("notebook") == "1"
    if cloud.is_remote or not has_notebook:
        boot.await_answer(lambda: _ssh_answers(cloud, boot.machine), what="response of its SSH server")
    if not has_notebook:
        return None
    with Undo() as undo:
        undo.add(f"tunnel to {boot.machine}", lambda: tunnel.close(cloud, boot.machine), by_hand=f"./inv stop {boot.machine}")
        found, certificate = way_in(cloud, boot.machine, labels, config), fingerprint(cloud, boot.machine, labels)
        boot.await_answer(lambda: notebook.answers(found, fingerprint=certificate), what="response of its notebook")
        undo.release()
    return found


def way_in(cloud: Cloud, machine: str, labels: Mapping[str, str], config: Path) -> str:
    """Return the URL of a machine's notebook, and open a tunnel if it needs one; `config` is the ssh config for the machine."""
    if cloud.is_remote and not https_port(labels):
        tunnel.open_tunnel(cloud, machine, config)
    return url(cloud, machine, labels)


def url(cloud: Cloud, machine: str, labels: Mapping[str, str]) -> str:
    """Return the URL of a machine's notebook. CloudError: it needs a tunnel, and none is open."""
    if port := https_port(labels):
        endpoint = cloud.address(machine, port)
        return f"https://{endpoint.host}:{endpoint.port}/"
    endpoint = tunnel.endpoint(cloud, machine, NOTEBOOK_PORT)
    return f"http://{endpoint.host}:{endpoint.port}/"


def fingerprint(cloud: Cloud, machine: str, labels: Mapping[str, str]) -> str:
    """Return the pinned fingerprint of the certificate of a machine's notebook, "" if it does not use TLS."""
    return identity.certificate(home(), account_key(cloud), machine) if https_port(labels) else ""


def https_port(labels: Mapping[str, str]) -> int:
    """Return the port on which a machine's notebook is open with TLS; 0: none."""
    return names.number(labels, "https")


def _ssh_answers(cloud: Cloud, machine: str) -> bool:
    return ssh_answers(cloud.address(machine, identity.SSH_PORT))
