"""The states of instances, and why they are in them: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from moto.ec2.models.instances import InstanceState, StateReason

CODES = {"pending": 0, "running": 16, "shutting-down": 32, "terminated": 48, "stopping": 64, "stopped": 80}

GONE = ("shutting-down", "terminated")


def set_state(instance: Any, name: str) -> None:
    instance._state = InstanceState(name, CODES[name])


def shown(instance: Any) -> dict[str, Any]:
    """Return the state as it goes over the wire."""
    return {"Code": instance._state.code, "Name": instance._state.name}


def set_reason(instance: Any, code: str, message: str, *, transition: str = "") -> None:
    """Note why; `transition` is the older, free text (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Instance.html)."""
    instance.state_reason = StateReason(f"{code}: {message}", code) if code else None
    instance._reason = transition


def reason_code(instance: Any) -> str:
    return instance.state_reason.code if instance.state_reason else ""


def by_user(instance: Any, now: datetime) -> None:
    """Note that a user asked for it: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StateReason.html."""
    text = f"User initiated ({now:%Y-%m-%d %H:%M:%S} GMT)"
    set_reason(instance, "Client.UserInitiatedShutdown", "User initiated shutdown", transition=text)


def by_guest(instance: Any) -> None:
    set_reason(instance, "Client.InstanceInitiatedShutdown", "Instance initiated shutdown")


def by_interruption(instance: Any, now: datetime, action: str) -> None:
    """Note that the service has terminated or stopped a Spot instance, by the codes of the same page; the texts are guesses."""
    ended = action == "terminate"
    code = "Server.SpotInstanceTermination" if ended else "Server.SpotInstanceShutdown"
    message = f"Instance {'terminated' if ended else 'stopped'} due to spot interruption"
    set_reason(instance, code, message, transition=f"{code} ({now:%Y-%m-%d %H:%M:%S} GMT)")
