"""Bakes: running, killed and ended ones, as the ledger, the labels in the cloud and the results on this computer tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from clouds import names
from clouds.accounts import account_key
from clouds.client import Fate
from clouds.driver import Cloud, Kind, Resource
from clouds.incomplete import partly, whole
from clouds.ledger import BakeNote, Ledger
from launcher.gc import UNFINISHED
from launcher.log import RESULT, read_result

STATES = {Fate.ALIVE: "running", Fate.DEAD: "killed", Fate.UNKNOWN: "unknown"}
"""The state of an unfinished bake by the fate of its client; that of one on another computer cannot be seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BakeView:
    """A bake. `state` is running, killed, unknown, finished, failed or interrupted.

    `age_s` is the time in seconds since it was ordered, or since it has ended; `step` is the one that it has
    reached; `holds` is what it occupies in the cloud, in words, "" for nothing.
    """

    id: str
    cloud: str
    region: str
    state: str
    recipe: str = ""
    age_s: float = 0.0
    owner: str = ""
    step: str = ""
    holds: str = ""

    def to_json(self) -> dict[str, object]:
        """Return it for programs."""
        return asdict(self)


def bakes(cloud: Cloud, region: str, ledger: Ledger, home: Path, *, now: float) -> list[BakeView]:
    """Return the bakes of an account: unfinished ones of all owners, then the ended ones of this computer, each the oldest first.

    `now` is in seconds since the epoch. UnreachableError: a part of the cloud did not respond; `found` has the rest.
    """
    listed, missing = partly(lambda: cloud.owned({"project": names.PROJECT}, {Kind.MACHINE, Kind.IMAGE}))
    held = defaultdict[str, list[Resource]](list)
    for resource in listed:
        if "bake" in resource.labels and resource.labels.get("role") in UNFINISHED:
            held[resource.labels["bake"]].append(resource)
    noted = {note.id: note for note in ledger.bakes(account_key(cloud))}
    results = [path for path in (home / "bakes").glob(f"*/{RESULT}") if path.parent.name not in noted]
    ended = {path.parent.name: view for path in results if (view := _ended(cloud, path, held.get(path.parent.name, []), now))}
    others = [bake_id for bake_id in dict.fromkeys((*noted, *held)) if bake_id not in ended]
    unfinished = [_unfinished(cloud, region, bake_id, noted.get(bake_id), held[bake_id], now) for bake_id in others]
    views = [view for group in (unfinished, ended.values()) for view in sorted(group, key=lambda view: -view.age_s)]
    return whole(f"bakes of {cloud.name}", views, missing)


def _unfinished(cloud: Cloud, region: str, bake_id: str, note: BakeNote | None, held: list[Resource], now: float) -> BakeView:
    labels: Mapping[str, str] = note.labels if note else held[0].labels
    return BakeView(
        id=bake_id,
        cloud=cloud.name,
        region=region,
        state=STATES[names.client_fate(labels)],
        recipe=labels.get("recipe", ""),
        age_s=max(0.0, now - (note.asked_at if note else names.number(labels, "created"))),
        owner=labels.get("owner", ""),
        step=_step(note, held),
        holds=", ".join(map(_described, held)),
    )


def _step(note: BakeNote | None, held: Iterable[Resource]) -> str:
    """Return the step that a bake has reached, as far as it is recorded."""
    if any(one.kind is Kind.IMAGE for one in held):
        return "test"
    checkpoints = note.order.get("checkpoints") if note else None
    steps = [*checkpoints, "snapshot"] if isinstance(checkpoints, list) else []
    return str(steps[note.reached]) if note and note.reached < len(steps) else ""


def _described(resource: Resource) -> str:
    size = f", {resource.size_bytes / 1e6:.0f} MB" if resource.kind is Kind.IMAGE else ""
    role = {"builder": "builder", "test": "test machine"}.get(resource.labels["role"], str(resource.kind))
    return f"{role} {resource.name} ({resource.state}{size})"


def _ended(cloud: Cloud, path: Path, held: list[Resource], now: float) -> BakeView | None:
    """Return a bake of this cloud by its result, which does not name the region; None for one of another cloud."""
    bake_id = path.parent.name
    result = read_result(path.parents[2], bake_id)
    if result.get("cloud") != cloud.name:
        return None
    image = str(result.get("image", ""))
    recipe = str(result.get("recipe", "")) or image.removesuffix(f"-{result.get('version', '')}")
    state = "interrupted" if result.get("interrupted") else "failed" if "error" in result else "finished"
    age_s, holds = max(0.0, now - path.stat().st_mtime), ", ".join(map(_described, held))
    return BakeView(id=bake_id, cloud=cloud.name, region="", state=state, recipe=recipe, age_s=age_s, holds=holds)
