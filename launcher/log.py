"""The log of a bake or the console of a machine, made safe for a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from clouds import names
from clouds.capabilities import KeepsFiles
from clouds.driver import Cloud, Kind
from clouds.errors import NotFoundError
from clouds.lifecycle import console_pieces
from launcher.clean import clean
from launcher.regions import other_regions, where

BAKE_LOGS = ("console.log", "tests.log", "steps.log")
"""The logs that a bake keeps; the most informative one is last, where the reader of a terminal looks first."""
RESULT = "result.json"
"""The result of a bake, which has the error of one that failed before it had a log."""

LOG_CHARACTERS = 16 * 2**20
"""The longest part of a console that is printed: a guest may write without end."""


def read_log(home: Path, cloud: Cloud, id: str) -> str:  # noqa: A002 - the word that the command line uses
    """Return the log of a bake (`bake-...`: its console, tests and steps, each with a heading) or a machine's console.

    A bake that failed before it had any of them has only its result.

    NotFoundError: there is no such log, and no such machine.
    """
    kept = [f"--- {name}\n{text}" for name, text in _kept(home, cloud, id)] if names.is_bake_id(id) and Path(id).name == id else []
    if kept:
        return clean("\n".join(kept))
    if cloud.find(Kind.MACHINE, id) is None:
        raise NotFoundError(
            f"no log of a bake or machine {id!r} found on {where(cloud)}",
            next_step="See: ./inv bakes, and: ./inv machines" + other_regions(cloud, "machines"),
        )
    return clean(newest(cloud, id))


def read_result(home: Path, bake_id: str) -> dict[str, Any]:
    """Return the result of a bake of this computer that has ended; empty if there is none."""
    try:
        found = json.loads((home / "bakes" / Path(bake_id).name / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def newest(cloud: Cloud, machine: str) -> str:
    """Return the output on a machine's console, or only the newest part if it is too long."""
    text, is_whole = "", True
    for piece in console_pieces(cloud, machine):
        text += piece.text
        if len(text) > LOG_CHARACTERS:
            text, is_whole = text[-LOG_CHARACTERS:], False
    left_out = f"[bakehouse: older output omitted; the newest {LOG_CHARACTERS >> 20} MB follow]\n"
    return text if is_whole else left_out + text


def _kept(home: Path, cloud: Cloud, bake_id: str) -> Iterator[tuple[str, str]]:
    logs = [(name, text) for name in BAKE_LOGS if (text := _kept_text(home, cloud, bake_id, name))]
    yield from logs or [(RESULT, text) for text in [_kept_text(home, cloud, bake_id, RESULT)] if text]


def _kept_text(home: Path, cloud: Cloud, bake_id: str, file: str) -> str:
    path = home / "bakes" / bake_id / file
    return _text(path if path.exists() else _attached(cloud, bake_id, file))


def _attached(cloud: Cloud, bake_id: str, file: str) -> Path | None:
    """Return the log that is stored with the image of a bake, on clouds that store files there."""
    if not isinstance(cloud, KeepsFiles):
        return None
    images = [found.name for found in cloud.owned({"project": names.PROJECT, "bake": bake_id}, {Kind.IMAGE})]
    return cloud.attached(images[0], file) if images else None


def _text(path: Path | None) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path else ""
