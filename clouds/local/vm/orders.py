"""The order that a waiting guest is given: who it is, what it runs, the time, and random bytes of its own."""

from __future__ import annotations

import base64
import secrets
import time
from pathlib import Path

from clouds.local.vm.record import MachineRecord
from clouds.local.vm.sockets import Orders

TAKES_S = 30
"""How long a guest may take to take its order; it takes a tenth of a second, and on a busy computer seconds."""
_SEED_BYTES = 64


def order(folder: Path, record: MachineRecord, *, is_larger: bool = False) -> dict[str, object]:
    """Return the order for a machine; `is_larger`: its disk is larger than that of the machine whose memory it has."""
    return {
        "clock": time.time(),
        "seed": _text(secrets.token_bytes(_SEED_BYTES)),
        "facts": record.facts or None,
        "script": (folder / "script").read_text(encoding="utf-8") if record.has_script else None,
        "build": _text((folder / "build").read_bytes()) if record.has_build_settings else None,
        "grow": is_larger,
    }


def give_order(folder: Path, given: dict[str, object]) -> None:
    """Send an order to a waiting guest. OSError: it does not take it in time."""
    with Orders(folder, timeout_s=TAKES_S) as orders:
        orders.send(given)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
