"""The errors that a user may see, in one small tree; `bakery.errors` adds those of recipes and bakes.

    BakehouseError                 exit 1: an expected failure; message = cause, next_step = what to do
    ├── UsageError                 exit 2: a flag, a name or a setting is wrong
    ├── NotConfirmedError          the user answered no to a question; printed without `error:`
    ├── CloudError                 a cloud refused or failed
    │   ├── CapacityError          another zone or machine type may work
    │   ├── QuotaError             no zone will work; the account's limit must grow
    │   ├── ThrottledError         back off, then ask again
    │   ├── DeniedError            credentials or permissions
    │   ├── NotFoundError          no resource of that name
    │   ├── ConflictError          the name is taken
    │   ├── InvalidError           the request itself is wrong
    │   ├── UnreachableError       a part of the cloud did not respond: `found` is the result for the rest
    │   ├── UnseenError            a resource could not be checked before its removal: it may be someone else's
    │   ├── FailedError            the cloud accepted a request and then failed, through its own fault
    │   ├── ForeignError           something between this computer and the cloud responded in its place
    │   ├── HostFullError          the disk of this computer is full
    │   ├── RestoreError           a machine could not be restored from its image's saved memory
    │   │   └── UnresponsiveError  its guest did not respond: another machine from the same memory may
    │   └── MissingToolError       a program is not installed; next_step has the command
    ├── TimedOutError              a wait reached its deadline; `last_seen` is the last state seen
    ├── GuestError                 a guest, or a program in it, failed: step and last lines
    │   └── KernelPanicError       the guest's kernel panicked
    └── LeftoverError              cleanup failed in part; `left` names the leftovers

Any other error is a bug in Bakehouse: exit 3, with a log file. Interrupted: exit 130.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


class BakehouseError(Exception):
    """An expected failure: what went wrong, and what to do next."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return self.message


class UsageError(BakehouseError):
    """The command line, a name or a setting is wrong."""

    exit_code = 2


class NotConfirmedError(BakehouseError):
    """The user answered no to a question: what was asked about is unchanged."""


def not_supported(flag: str, cloud: str) -> str:
    """Return the message of a UsageError for a flag that a cloud does not support."""
    return f"{flag}: not supported by cloud {cloud!r} (leave it out, or choose another --cloud)"


class CloudError(BakehouseError):
    """A cloud refused or failed."""


class CapacityError(CloudError):
    """No capacity in `zone` at the moment; another machine type may work, or one of `zones`, the best first."""

    def __init__(self, message: str, *, zone: str = "", zones: Sequence[str] = (), next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.zone = zone
        self.zones = tuple(zones)


class QuotaError(CloudError):
    """The account's limit is reached; another zone does not help."""


class ThrottledError(CloudError):
    """Too many requests; the same request may work after `retry_after_s` seconds (0: the cloud gives no time)."""

    def __init__(self, message: str, *, next_step: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after_s = retry_after_s


class DeniedError(CloudError):
    """The credentials are missing, expired, or lack a permission."""


class NotFoundError(CloudError):
    """No resource of that name exists."""


class ConflictError(CloudError):
    """The name is taken."""


def machine_exists(name: str, cloud: str) -> ConflictError:
    """Return the error of a launch under the name of a machine that a cloud has already."""
    return ConflictError(
        f"machine {name!r} already exists on {cloud}", next_step=f"Choose another --name, or delete it: ./inv delete {name}"
    )


class InvalidError(CloudError):
    """The request itself is wrong; it will not work later either."""


class UnreachableError(CloudError):
    """Some zones of a cloud did not respond: nothing is known about the resources in `scopes`.

    `found` is the result for the other zones, in the form that the call would have returned.
    """

    def __init__(self, message: str, *, scopes: Iterable[str], found: Sequence[Any] = (), next_step: str = "") -> None:
        self.scopes = tuple(sorted(set(scopes)))
        where = ", ".join(self.scopes)
        super().__init__(f"{message}: could not reach {where}", next_step=next_step or "Try again in a few minutes.")
        self.found = list(found)


class UnseenError(CloudError):
    """A resource could not be checked before its removal, so it was kept: one of its name may be someone else's."""


class FailedError(CloudError):
    """A cloud accepted a request and then failed, through its own fault; the operation has ended."""


class ForeignError(CloudError):
    """The response is not the cloud's, but a network's log-in page, for example. Whether the request has arrived is unknown."""


class HostFullError(CloudError):
    """The disk of this computer is full."""


class RestoreError(CloudError):
    """A machine could not be restored from its image's saved memory; it may work if it is booted from its disk."""


class UnresponsiveError(RestoreError):
    """The guest of a restored machine did not respond: QEMU or its kernel hangs. Another machine from the same memory may work."""


class MissingToolError(CloudError):
    """A program that the cloud needs is not installed; `next_step` has the command that installs it."""


class TimedOutError(BakehouseError):
    """A wait reached its deadline. The wait itself deletes nothing."""

    def __init__(self, message: str, *, last_seen: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.last_seen = last_seen


class GuestError(BakehouseError):
    """A guest, or a program in it, failed; `step` is the step that failed ("" outside of steps), `log` its last lines."""

    def __init__(self, message: str, *, step: str = "", log: Sequence[str] = (), next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.step = step
        self.log = tuple(log)


class KernelPanicError(GuestError):
    """The guest's kernel panicked."""


class LeftoverError(BakehouseError):
    """Cleanup failed in part; `left` names each leftover."""

    def __init__(self, message: str, *, left: Sequence[str], next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.left = tuple(left)
