"""Operations of Compute Engine: store them as text in a ticket, and wait until they have ended."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from clouds.errors import NotFoundError, TimedOutError
from clouds.gcp import failures, sdk
from clouds.gcp.client import Client
from clouds.waiter import until

_FINISH_S = 300
"""How long to wait for an operation that the next request depends on. A guess: the service documents no limit."""


def refer(operations: Iterable[sdk.compute.Operation]) -> str:
    """Return operations as a ticket stores them: `zones/us-central1-a/operations/operation-1`, separated by spaces."""
    return " ".join(_path(operation.self_link) for operation in operations)


def have_ended(client: Client, what: str, references: str) -> bool:
    """Wait up to two minutes for each operation, and return whether all have ended; raise the error of a failed one.

    `wait` answers when an operation ends, or within two minutes: fewer requests than polling. An overloaded service may answer
    at once (description in the discovery document), so callers must keep an interval.
    """
    return all(_has_ended(client, what, reference) for reference in references.split())


def finish(client: Client, what: str, operation: sdk.compute.Operation) -> None:
    """Wait for an operation that the next request depends on."""
    reference = refer([operation])
    try:
        until(
            lambda: have_ended(client, what, reference),
            what=what,
            timeout_s=_FINISH_S,
            poll_s=0.1,
            poll_max_s=5,
            sleep=client.sleep,
            clock=client.clock,
        )
    except TimedOutError as error:
        error.next_step = "Try again in a few minutes; see https://status.cloud.google.com."
        raise


def _has_ended(client: Client, what: str, reference: str) -> bool:
    operation = client.wait(what, reference)
    if operation.status != sdk.compute.Operation.Status.DONE:
        return False
    if "error" not in operation:
        return True
    error = failures.of_operation(what, operation, zone=reference.split("/")[1])
    if isinstance(error, NotFoundError) and operation.operation_type == "delete":
        return True  # already deleted: hashicorp/terraform-provider-google#8422, cloudfoundry/bosh-google-cpi-release#298
    raise error


def _path(link: str) -> str:
    """Return the part of an operation's link after its project."""
    path = urlsplit(link).path
    return path.partition("/projects/")[2].partition("/")[2]
