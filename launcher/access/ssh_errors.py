"""Why ssh(1) did not get into a machine, read from what OpenSSH says of it: the cause, and what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass

from clouds.driver import Endpoint
from clouds.errors import CloudError


class EndedError(CloudError):
    """An SSH server has ended the connection before anybody was let in: it may be starting, or going off."""


@dataclass(frozen=True, slots=True)
class _Reason:
    """What OpenSSH writes, what that means, and what to do about it; `far` where a remote cloud has another remedy."""

    said: str
    cause: str
    next_step: str
    far: str = ""
    kind: type[CloudError] = CloudError


_REASONS = (
    _Reason(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED|Host key for \S+ has changed",
        "whoever answers at {where} has another host key than the machine has told on its console",
        "Do not go on there: somebody else may have its address now. "
        "If it is yours and has new keys, stop and start it, which pins them: ./inv stop {machine}, ./inv start {machine}",
    ),
    _Reason(
        r"host key is known for|Host key verification failed",
        "this computer does not know its host key",
        "Use the computer and the BAKEHOUSE_HOME that launched it, or stop and start it from here.",
    ),
    _Reason(
        r"Permission denied \(|Too many authentication failures|Load key \"[^\"]*\": ",
        "its SSH server at {where} refuses this computer's key, or its user",
        "Use the computer and the BAKEHOUSE_HOME that launched it. "
        "On the machine, ~/.ssh/authorized_keys of the user notebook must hold the key in ssh/id_ed25519.pub there.",
    ),
    _Reason(
        r"timed out|Timeout, server \S+ not responding",
        "nothing answers at {where} in time",
        "It may still be starting: look at its console with ./inv log {machine}",
        far="It may have gone off (./inv machines), or its firewall does not admit the address that you have now: "
        "to admit it and shut the one before out: ./inv start {machine}; for other addresses: ./inv start {machine} --source RANGE",
    ),
    _Reason(
        r"Connection refused",
        "no SSH server answers at {where}: the machine is on, and the server is not",
        "It may still be starting: wait a moment, and look at its console with ./inv log {machine}",
    ),
    _Reason(
        r"No route to host|Network is unreachable",
        "no way leads from this computer to {where}",
        "See that this computer is in the network; a machine with --no-public-ip answers inside the cloud's network only.",
    ),
    _Reason(
        r"Could not resolve hostname",
        "the address {where} is not known",
        "See that it is on: ./inv machines",
    ),
    _Reason(
        r"Connection (?:closed|reset)|Connection to \S+ closed by|Broken pipe",
        "its SSH server at {where} has ended the connection",
        "It may be starting or going off: wait a moment, and look at its console with ./inv log {machine}",
        kind=EndedError,
    ),
)
"""The first that fits holds: OpenSSH 9.2's own words (sshconnect.c, sshconnect2.c, packet.c), which no locale changes."""


def explain(said: str, *, machine: str, endpoint: Endpoint, is_remote: bool) -> CloudError | None:
    """Return what to tell a user when ssh(1) has failed and said this; None when it has said nothing that is known."""
    where = f"{endpoint.host}:{endpoint.port}"
    for reason in _REASONS:
        if re.search(reason.said, said):
            next_step = reason.far if is_remote and reason.far else reason.next_step
            cause = reason.cause.format(where=where, machine=machine)
            return reason.kind(f"machine {machine}: {cause}", next_step=next_step.format(machine=machine))
    return None
