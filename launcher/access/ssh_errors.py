"""Derive cause and next step from OpenSSH's messages when ssh(1) could not connect to a machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clouds.driver import Endpoint
from clouds.errors import CloudError


class EndedError(CloudError):
    """An SSH server closed the connection before authentication: it may be starting or shutting down."""


@dataclass(frozen=True, slots=True)
class _Reason:
    """A pattern of OpenSSH's message, its cause and its next step; `far` is the next step on a remote cloud if it differs."""

    said: str
    cause: str
    next_step: str
    far: str = ""
    kind: type[CloudError] = CloudError


_REASONS = (
    _Reason(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed",
        "the server at {where} has another host key than the machine reported on its console",
        "Do not continue there: another computer may have the address now. "
        "If it is your machine with new keys, stop and start it, which pins them: ./inv stop {machine}, ./inv start {machine}",
    ),
    _Reason(
        r"host key is known for|Host key verification failed",
        "its host key is not pinned on this computer",
        "Use the computer and the BAKEHOUSE_HOME that launched it, or stop and start it from here.",
    ),
    _Reason(
        r"Permission denied \(|Too many authentication failures|Load key \"[^\"]*\": ",
        "its SSH server at {where} rejected this computer's key or the user",
        "Use the computer and the BAKEHOUSE_HOME that launched it. "
        "On the machine, ~/.ssh/authorized_keys of the user notebook must contain the key in ssh/id_ed25519.pub of that folder.",
    ),
    _Reason(
        r"timed out|Timeout, server \S+ not responding",
        "connection to {where} timed out",
        "It may still be starting; look at its console: ./inv log {machine}",
        far="It may have stopped (./inv machines), or its firewall does not allow your current address. "
        "To allow it instead of the previous one: ./inv start {machine}; for other addresses: ./inv start {machine} --source RANGE",
    ),
    _Reason(
        r"Connection refused",
        "connection to {where} refused: the machine is running, but its SSH server is not",
        "It may still be starting; wait a moment, or look at its console: ./inv log {machine}",
    ),
    _Reason(
        r"No route to host|Network is unreachable",
        "no route to host {where}",
        "Check that this computer is in that network; a machine with --no-public-ip can be reached only from the cloud's network.",
    ),
    _Reason(
        r"Could not resolve hostname",
        "could not resolve the address {where}",
        "Check that it is running: ./inv machines",
    ),
    _Reason(
        r"Connection (?:closed|reset)|Connection to \S+ closed by|Broken pipe",
        "its SSH server at {where} closed the connection",
        "It may be starting or shutting down; wait a moment, or look at its console: ./inv log {machine}",
        kind=EndedError,
    ),
)
"""The first match counts. OpenSSH 9.2 (sshconnect.c, sshconnect2.c, packet.c) does not translate its messages."""


def explain(said: str, *, machine: str, endpoint: Endpoint, is_remote: bool) -> CloudError | None:
    """Return the error for messages of a failed ssh(1); None if no pattern matches."""
    where = f"{endpoint.host}:{endpoint.port}"
    for reason in _REASONS:
        if re.search(reason.said, said):
            next_step = reason.far if is_remote and reason.far else reason.next_step
            cause = reason.cause.format(where=where, machine=machine)
            return reason.kind(f"machine {machine!r}: {cause}", next_step=next_step.format(machine=machine))
    return None
