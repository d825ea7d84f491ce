"""What a bake or a machine has printed, made fit for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from clouds import names
from clouds.capabilities import KeepsFiles
from clouds.driver import Cloud, Kind
from clouds.errors import NotFoundError
from clouds.lifecycle import console_pieces
from launcher.clean import clean

BAKE_LOGS = ("console.log", "tests.log", "steps.log")
"""The logs that a bake keeps; the one that says most comes last, where a terminal ends."""

LOG_CHARACTERS = 16 * 2**20
"""How much of the console of a machine is shown: a guest may print without end."""


def read_log(home: Path, cloud: Cloud, id: str) -> str:  # noqa: A002 - the word that the command line uses
    """Return the log of a bake (`bake-...`: its console, tests and steps, each under its name) or a machine's console.

    Raises NotFoundError when there is neither a log nor such a machine.
    """
    kept = [f"--- {name}\n{text}" for name, text in _kept(home, cloud, id)] if names.is_bake_id(id) and Path(id).name == id else []
    if kept:
        return clean("\n".join(kept))
    if cloud.find(Kind.MACHINE, id) is None:
        raise NotFoundError(
            f"{id}: no bake and no machine of that name has a log",
            next_step="See: ./inv machines, and the label bake in: ./inv images --json",
        )
    return clean(newest(cloud, id))


def newest(cloud: Cloud, machine: str) -> str:
    """Return what a machine's console has printed, or the newest part of it where that is too much to read."""
    text, is_whole = "", True
    for piece in console_pieces(cloud, machine):
        text += piece.text
        if len(text) > LOG_CHARACTERS:
            text, is_whole = text[-LOG_CHARACTERS:], False
    left_out = f"[bakehouse: older output is left out; the newest {LOG_CHARACTERS >> 20} MB follow]\n"
    return text if is_whole else left_out + text


def _kept(home: Path, cloud: Cloud, bake_id: str) -> Iterator[tuple[str, str]]:
    for name in BAKE_LOGS:
        path = home / "bakes" / bake_id / name
        text = _text(path if path.exists() else _attached(cloud, bake_id, name))
        if text:
            yield name, text


def _attached(cloud: Cloud, bake_id: str, file: str) -> Path | None:
    """Return the log that lies beside the image of a bake, where the cloud keeps files there."""
    if not isinstance(cloud, KeepsFiles):
        return None
    images = [found.name for found in cloud.owned({"project": names.PROJECT, "bake": bake_id}, {Kind.IMAGE})]
    return cloud.attached(images[0], file) if images else None


def _text(path: Path | None) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path else ""
