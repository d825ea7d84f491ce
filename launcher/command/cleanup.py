"""The verb `gc`: list orphaned resources, ask, and remove them, on one cloud or on all configured ones."""

from __future__ import annotations

import time
from dataclasses import dataclass

from clouds.capabilities import KeepsLayers, Layer, PreparesHere
from clouds.driver import Cloud, Resource
from clouds.home import home
from clouds.ledger import Ledger
from launcher.access import identity, tunnel
from launcher.addresses import described as in_words
from launcher.cached_layers import GB, prune, size_bytes
from launcher.command import hints
from launcher.command.multi_cloud import ALL, visit
from launcher.command.terminal import Terminal
from launcher.gc import Garbage, collect, forget_absent, forget_bakes, prune_logs, survey, sweep_scratch
from launcher.kept_disks import described


@dataclass(frozen=True, slots=True)
class _Found:
    """The garbage and the cached layers of one cloud, and its zones that could not be reached.

    `region` is set if several regions of it are cleaned up.
    """

    cloud: str
    region: str
    garbage: list[Garbage]
    layers: list[Layer]
    missing: tuple[str, ...]
    kept: list[Resource]
    addresses: list[Resource]
    resumable: list[Resource]

    def lines(self, keep_gb: float | None) -> list[str]:
        """Return the lines to print before the user is asked."""
        lines = [str(one) for one in self.garbage]
        lines += [f"{described(disk)} is kept and billed; to delete it: ./inv delete-disk {disk.name}" for disk in self.kept]
        lines += [
            f"{in_words(one)} is reserved and billed; to release it: ./inv delete-address {one.name}" for one in self.addresses
        ]
        lines += [
            f"{one.kind} {one.name!r} is kept, since its bake can be resumed: ./inv bake --resume {one.labels['bake']}"
            " (to delete it: ./inv gc --bakes)"
            for one in self.resumable
        ]
        if self.shrinks(keep_gb):
            rest = f" down to {keep_gb:g} GB" if keep_gb else ""
            return [*lines, f"delete {_shown(self.layers)}{rest}, except those in use"]
        return [*lines, f"{_shown(self.layers)} are kept; to delete them: ./inv gc --layers"] if self.layers else lines

    def shrinks(self, keep_gb: float | None) -> bool:
        """Return whether layers will be deleted."""
        return keep_gb is not None and size_bytes(self.layers) > keep_gb * GB


@dataclass(frozen=True, slots=True)
class _Done:
    """The result for one cloud: garbage that was kept because it has changed since it was listed, and the deleted layers."""

    cloud: str
    region: str
    changed: list[Garbage]
    layers: list[Layer]

    def lines(self) -> list[str]:
        """Return the lines to print about what was kept."""
        return [f"{one.resource.kind} {one.resource.name!r} has changed since it was listed; kept" for one in self.changed]


def tidy_up(
    name: str | None,
    ledger: Ledger,
    terminal: Terminal,
    *,
    keep_gb: float | None,
    yes: bool,
    region: str | None = None,
    bakes: bool = False,
) -> int:
    """Remove orphaned resources, and cached layers down to `keep_gb` (None: keep all of them); return the exit code.

    `bakes`: also what bakes that could be resumed have left.
    """
    now = time.time()
    found, complete = visit(name, lambda cloud, where: _find(cloud, where, ledger, now, bakes), terminal.tell, region=region)
    for one in found:
        for line in one.lines(keep_gb):
            terminal.tell(_placed(hints.write(line, one.cloud if name == ALL else "", one.region), one, name))
    count = sum(len(one.garbage) for one in found)
    if count or any(one.shrinks(keep_gb) for one in found):
        terminal.confirm("Continue?", yes=yes)
    garbage = {(one.cloud, one.region): one.garbage for one in found}

    def clean(cloud: Cloud, where: str) -> _Done:
        if where and (cloud.name, where) not in garbage:  # a region that could not be listed, which was reported
            return _Done(cloud.name, where, [], [])
        return _remove(cloud, where, ledger, garbage.get((cloud.name, where), []), keep_gb, bakes)

    done, removed = visit(name, clean, terminal.tell, region=region)
    logs = prune_logs(home(), now=now)
    sweep_scratch(home())
    for end in done:
        for line in end.lines():
            terminal.tell(_placed(line, end, name))
        count -= len(end.changed)
    is_whole = not any(one.missing for one in found)
    layers = [layer for end in done for layer in end.layers]
    if count and removed:
        terminal.tell(f"cleaned up {_counted(count, 'resource')}")
    elif removed and is_whole and not layers and not logs:
        terminal.tell("nothing to clean up")
    if layers:
        terminal.tell(f"removed {_shown(layers)}")
    if logs:
        terminal.tell(f"removed {_counted(len(logs), 'old bake log')}")
    for one in found:
        if one.missing:
            terminal.tell(f"error: could not reach {', '.join(one.missing)} on {one.cloud}; nothing was cleaned up there")
            terminal.tell(hints.write("next: Try again in a few minutes: ./inv gc", one.cloud if name == ALL else ""))
    return 0 if complete and removed and is_whole else 1


def _placed(line: str, one: _Found | _Done, name: str | None) -> str:
    """Return a line with the cloud and region that it is about, if several are cleaned up."""
    places = [*([one.cloud] if name == ALL else []), *([one.region] if one.region else [])]
    return f"{' in '.join(places)}: {line}" if places else line


def _find(cloud: Cloud, region: str, ledger: Ledger, now: float, bakes: bool) -> _Found:
    found, missing = survey(cloud, ledger, now=now, bakes=bakes)
    return _Found(cloud.name, region, found.garbage, _layers(cloud), missing, found.kept, found.addresses, found.resumable)


def _layers(cloud: Cloud) -> list[Layer]:
    return cloud.layers() if isinstance(cloud, KeepsLayers) else []


def _shown(layers: list[Layer]) -> str:
    return f"cached layers ({len(layers)}, {size_bytes(layers) / GB:.1f} GB)"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _remove(cloud: Cloud, region: str, ledger: Ledger, garbage: list[Garbage], keep_gb: float | None, bakes: bool) -> _Done:
    """Remove garbage and layers from a cloud, and this computer's records of resources that are gone."""
    changed = collect(cloud, ledger, garbage)
    if garbage:
        identity.sync(home(), cloud)
    tunnel.sweep(cloud)
    if isinstance(cloud, PreparesHere):
        cloud.sweep()
    now = time.time()
    forget_absent(cloud, ledger, now=now)
    forget_bakes(cloud, ledger, now=now, bakes=bakes)
    layers = prune(cloud, int(keep_gb * GB)) if keep_gb is not None and isinstance(cloud, KeepsLayers) else []
    return _Done(cloud.name, region, changed, layers)
