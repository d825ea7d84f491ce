"""What comes before a suspended machine can be stopped: it has to run."""

from __future__ import annotations

from clouds.errors import CloudError, ForeignError, ThrottledError
from clouds.gcp import instances, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish


def resume(client: Client, instance: sdk.compute.Instance) -> None:
    """Resume a suspended machine and wait until it runs. CloudError, with what to do: it cannot be resumed now."""
    what, send = f"machine {instance.name}", client.services.instances.resume_unary
    try:
        finish(client, what, client.change(what, send, **instances.place(instance)))
    except CloudError as error:
        if isinstance(error, ThrottledError | ForeignError):  # the request may have arrived all the same
            error.add_note(_may_run(instance.name))
            raise
        error.message = f"{what} cannot be resumed, which a stop needs: {error.message}"
        error.next_step = (
            f"It stays suspended, and its memory and disk are billed: try again later, or delete it: ./inv delete {instance.name}"
        )
        raise
    except BaseException as error:
        error.add_note(_may_run(instance.name))
        raise


def _may_run(machine: str) -> str:
    return f"machine {machine} may be running now, which is billed; to stop it: ./inv stop {machine}"
