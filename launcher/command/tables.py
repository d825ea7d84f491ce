"""Machines and images as rows of a table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from launcher.command.hints import Command

if TYPE_CHECKING:
    from launcher.bakes import BakeView
    from launcher.images import ImageView
    from launcher.machines import MachineView


def machine_row(machine: MachineView, *, names_cloud: bool = False) -> dict[str, str]:
    """Return a machine as a row of a table; with `names_cloud`, the command in it has `--cloud`."""
    role = machine.labels.get("role", "machine")
    return {
        "name": machine.name,
        "state": machine.state if role == "machine" else f"{machine.state} ({role})",
        "cloud": machine.cloud,
        "region": machine.region,
        "image": machine.image,
        "left": "" if machine.left_s is None else hours_shown(machine.left_s),
        "url": machine.url or _way_to_url(machine, machine.cloud if names_cloud else ""),
    }


def _way_to_url(machine: MachineView, cloud: str) -> str:
    """Return the command that opens a notebook through a new tunnel, or "" if the machine has no notebook to open."""
    from clouds.driver import State  # costs 10 ms, which `./inv --list` need not spend

    is_here = machine.has_notebook and machine.state == State.RUNNING and machine.labels.get("role") == "machine"
    return str(Command("open", (machine.name,), cloud, machine.region)) if is_here else ""


def image_row(image: ImageView) -> dict[str, str]:
    """Return an image as a row of a table; its total size includes that of its memory."""
    return {
        "name": image.name,
        "state": " ".join(
            [image.state, *([] if image.is_sealed else ["(not sealed)"]), *(["(pinned)"] if image.is_pinned else [])]
        ),
        "cloud": image.cloud,
        "region": image.location,
        "total": f"{image.size_bytes / 1e6:.0f} MB",
        "memory": f"{image.memory_bytes / 1e6:.0f} MB" if image.memory_bytes else "",
        "created": time.strftime("%Y-%m-%d %H:%M", time.localtime(image.created)) if image.created else "",
    }


def bake_row(bake: BakeView) -> dict[str, str]:
    """Return a bake as a row of a table."""
    return {
        "id": bake.id,
        "recipe": bake.recipe,
        "state": bake.state,
        "cloud": bake.cloud,
        "region": bake.region,
        "age": hours_shown(bake.age_s),
        "owner": bake.owner,
        "step": bake.step,
        "holds": bake.holds,
    }


def hours_shown(seconds: float) -> str:
    """Format a duration as hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min"
