"""The errors that a user may meet, as one small tree; `bakery.errors` adds those of recipes and bakes.

    BakehouseError                 exit 1: an expected failure; message = cause, next_step = what to do
    ├── UsageError                 exit 2: a flag, a name or a setting is wrong
    ├── CloudError                 a cloud refused or failed
    │   ├── CapacityError          another zone or machine type may work
    │   ├── QuotaError             no zone will work; the account's limit must grow
    │   ├── ThrottledError         back off, then ask again
    │   ├── DeniedError            credentials or permissions
    │   ├── NotFoundError          the named thing is not there
    │   ├── ConflictError          the name is taken
    │   ├── InvalidError           the request itself is wrong
    │   ├── UnreachableError       part of the cloud did not answer: `found` is what the rest holds
    │   ├── UnseenError            a thing could not be looked at: one of its name may be another's
    │   ├── FailedError            the cloud accepted a request and then failed it by a fault of its own
    │   ├── ForeignError           something between us and the cloud has answered in its place
    │   ├── HostFullError          the local cloud's own disk is full
    │   ├── RestoreError           a machine did not go on from the memory of its image
    │   └── MissingToolError       a program is not installed; next_step holds the command
    ├── TimedOutError              a wait reached its deadline; `last_seen` says what stood there
    ├── BakeError                  a bake failed
    │   └── KernelPanicError       the guest's kernel panicked
    └── LeftoverError              cleaning up failed in part; `left` names what is left

Anything else that reaches the top is our bug: exit 3, with a log file. Interrupted: exit 130.
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


def not_supported(flag: str, cloud: str) -> str:
    """Return the message of a UsageError for a flag that a cloud does not support."""
    return f"{flag}: not supported by cloud {cloud!r} (leave it out, or choose another --cloud)"


class CloudError(BakehouseError):
    """A cloud refused or failed."""


class CapacityError(CloudError):
    """No capacity in `zone` now; another machine type may work, or one of `zones`, the best first."""

    def __init__(self, message: str, *, zone: str = "", zones: Sequence[str] = (), next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.zone = zone
        self.zones = tuple(zones)


class QuotaError(CloudError):
    """The account's limit is reached; another zone does not help."""


class ThrottledError(CloudError):
    """Too many requests; the same request may work later: after `retry_after_s` seconds (0: the cloud does not say when)."""

    def __init__(self, message: str, *, next_step: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(message, next_step=next_step)
        self.retry_after_s = retry_after_s


class DeniedError(CloudError):
    """The credentials are missing, expired or not allowed to do this."""


class NotFoundError(CloudError):
    """The named thing is not there."""


class ConflictError(CloudError):
    """The name is taken."""


class InvalidError(CloudError):
    """The request itself is wrong; it will not work later either."""


class UnreachableError(CloudError):
    """A cloud could not ask all of its zones: nothing may be concluded about what is in `scopes`.

    `found` is what the other zones hold, as the call that raises it would have returned it.
    """

    def __init__(self, message: str, *, scopes: Iterable[str], found: Sequence[Any] = (), next_step: str = "") -> None:
        self.scopes = tuple(sorted(set(scopes)))
        where = ", ".join(self.scopes)
        super().__init__(f"{message}: could not reach {where}", next_step=next_step or "Try again in a few minutes.")
        self.found = list(found)


class UnseenError(CloudError):
    """A thing could not be looked at before its removal: the one of its name may be another's, and stays."""


class FailedError(CloudError):
    """A cloud accepted a request and then failed it by a fault of its own; the operation has ended."""


class ForeignError(CloudError):
    """The answer is not the cloud's, such as the log-in page of a network. Whether the request has arrived is unknown."""


class HostFullError(CloudError):
    """The disk of this computer is full."""


class RestoreError(CloudError):
    """A machine did not go on from the memory of its image; booted from its disk it may be well."""


class MissingToolError(CloudError):
    """A program that the cloud needs is not installed; `next_step` holds the command that installs it."""


class TimedOutError(BakehouseError):
    """A wait reached its deadline. Nothing was deleted because of it."""

    def __init__(self, message: str, *, last_seen: str = "", next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.last_seen = last_seen


class BakeError(BakehouseError):
    """A bake failed; `step` is the step that it was in ("" outside of any), `log` its last lines."""

    def __init__(self, message: str, *, step: str = "", log: Sequence[str] = (), next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.step = step
        self.log = tuple(log)


class KernelPanicError(BakeError):
    """The guest's kernel panicked."""


class LeftoverError(BakehouseError):
    """Cleaning up failed in part; `left` names each thing that is left."""

    def __init__(self, message: str, *, left: Sequence[str], next_step: str = "") -> None:
        super().__init__(message, next_step=next_step)
        self.left = tuple(left)
