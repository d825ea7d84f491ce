"""Resume a suspended machine before it is stopped, as Compute Engine requires."""

from __future__ import annotations

from clouds.driver import State
from clouds.errors import CloudError, ForeignError, ThrottledError
from clouds.gcp import instances, sdk
from clouds.gcp.client import Client
from clouds.gcp.operations import finish


def leave_suspension(client: Client, instance: sdk.compute.Instance) -> None:
    """Resume a suspended machine, and wait until it runs. CloudError: it cannot be resumed now, or is being suspended.

    Compute Engine cannot stop a suspended instance: "You can resume the VM or delete it"
    (cloud.google.com/compute/docs/instances/instance-life-cycle).
    """
    if instance.status == "SUSPENDING":
        next_step = f"Wait until it is suspended (./inv machines), then: ./inv stop {instance.name}"
        raise CloudError(f"machine {instance.name!r} is being suspended", next_step=next_step)
    if instances.state(instance) is State.SUSPENDED:
        _resume(client, instance)


def _resume(client: Client, instance: sdk.compute.Instance) -> None:
    what, send = f"machine {instance.name!r}", client.services.instances.resume_unary
    try:
        finish(client, what, client.change(what, send, **instances.place(instance)))
    except CloudError as error:
        if isinstance(error, ThrottledError | ForeignError):  # the request may have arrived
            error.add_note(_may_run(instance.name))
            raise
        error.message = f"cannot resume {what}, which is required to stop it: {error.message}"
        error.next_step = (
            f"It stays suspended, and its memory and disk are billed: try again later, or delete it: ./inv delete {instance.name}"
        )
        raise
    except BaseException as error:
        error.add_note(_may_run(instance.name))
        raise


def _may_run(machine: str) -> str:
    return f"machine {machine!r} may be running now, which is billed; to stop it: ./inv stop {machine}"
