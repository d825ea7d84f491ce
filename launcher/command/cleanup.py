"""What `gc` does: it tells what is left over, asks, and removes it, on one cloud or on each that is configured."""

from __future__ import annotations

import time
from dataclasses import dataclass

from clouds.capabilities import KeepsLayers, Layer, PreparesHere
from clouds.driver import Cloud
from clouds.home import home
from clouds.incomplete import partly
from clouds.ledger import Ledger
from launcher.access import identity, tunnel
from launcher.cached_layers import GB, prune, size_bytes
from launcher.command import hints
from launcher.command.multi_cloud import ALL, visit
from launcher.command.terminal import Terminal
from launcher.gc import Waste, collect, find, forget_absent, forget_bakes, prune_logs, sweep_scratch


@dataclass(frozen=True, slots=True)
class _Found:
    """What a cloud holds that may go, and which of its zones could not be reached."""

    cloud: str
    wastes: list[Waste]
    layers: list[Layer]
    missing: tuple[str, ...]

    def lines(self, keep_gb: float | None) -> list[str]:
        """Return what the user is told of it."""
        told = [str(waste) for waste in self.wastes]
        if self.shrinks(keep_gb):
            rest = f" down to {keep_gb:g} GB" if keep_gb else ""
            return [*told, f"delete {_shown(self.layers)}{rest}, but those in use"]
        return [*told, f"{_shown(self.layers)} stay; to delete them: ./inv gc --layers"] if self.layers else told

    def shrinks(self, keep_gb: float | None) -> bool:
        """Say whether layers are to go."""
        return keep_gb is not None and size_bytes(self.layers) > keep_gb * GB


@dataclass(frozen=True, slots=True)
class _Done:
    """What was done on a cloud: the waste that stays because it has changed since it was told, the layers that went."""

    cloud: str
    changed: list[Waste]
    layers: list[Layer]

    def lines(self) -> list[str]:
        """Return what the user is told of what stays."""
        return [f"{waste.resource.kind} {waste.resource.name} has changed meanwhile, and stays" for waste in self.changed]


def tidy_up(name: str | None, ledger: Ledger, terminal: Terminal, *, keep_gb: float | None, yes: bool) -> int:
    """Remove what is left over, and layers down to a size (None: none of them); return the exit code."""
    now = time.time()
    found, well = visit(name, lambda cloud: _find(cloud, ledger, now), terminal.tell)
    for one in found:
        for line in one.lines(keep_gb):
            terminal.tell(f"{one.cloud}: {hints.write(line, one.cloud)}" if name == ALL else line)
    count = sum(len(one.wastes) for one in found)
    if count or any(one.shrinks(keep_gb) for one in found):
        terminal.confirm("Do all this?", yes=yes)
    wastes = {one.cloud: one.wastes for one in found}
    done, removed = visit(name, lambda cloud: _remove(cloud, ledger, wastes.get(cloud.name, []), keep_gb), terminal.tell)
    logs = prune_logs(home(), now=now)
    sweep_scratch(home())
    for end in done:
        for line in end.lines():
            terminal.tell(f"{end.cloud}: {line}" if name == ALL else line)
        count -= len(end.changed)
    is_whole = not any(one.missing for one in found)
    if removed and (count or is_whole):
        terminal.tell(f"{count} left over and removed" if count else "nothing is left over")
    if layers := [layer for end in done for layer in end.layers]:
        terminal.tell(f"{_shown(layers)} removed")
    if logs:
        terminal.tell(f"{len(logs)} old logs of bakes removed")
    for one in found:
        if one.missing:
            terminal.tell(f"error: {one.cloud}: could not reach {', '.join(one.missing)}; what was left over there stays")
            terminal.tell(hints.write("next: In a few minutes, run again: ./inv gc", one.cloud if name == ALL else ""))
    return 0 if well and removed and is_whole else 1


def _find(cloud: Cloud, ledger: Ledger, now: float) -> _Found:
    wastes, missing = partly(lambda: find(cloud, ledger, now=now))
    return _Found(cloud.name, list(wastes), _layers(cloud), missing)


def _layers(cloud: Cloud) -> list[Layer]:
    return cloud.layers() if isinstance(cloud, KeepsLayers) else []


def _shown(layers: list[Layer]) -> str:
    return f"layers of bakes ({len(layers)}, {size_bytes(layers) / GB:.1f} GB)"


def _remove(cloud: Cloud, ledger: Ledger, wastes: list[Waste], keep_gb: float | None) -> _Done:
    """Remove waste from a cloud, what this computer remembers of what is gone, and layers."""
    changed = collect(cloud, ledger, wastes)
    if wastes:
        identity.sync(home(), cloud)
    tunnel.sweep(cloud)
    if isinstance(cloud, PreparesHere):
        cloud.sweep()
    forget_absent(cloud, ledger, now=time.time())
    forget_bakes(cloud, ledger)
    layers = prune(cloud, int(keep_gb * GB)) if keep_gb is not None and isinstance(cloud, KeepsLayers) else []
    return _Done(cloud.name, changed, layers)
