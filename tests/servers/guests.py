"""What the scripted machines behind a test server do: what tests/fake_guest.py plays, told by the cloud's own metadata."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase

from clouds.gcp.instances import FACTS, SCRIPT, read_facts
from tests.fake_guest import OK, Guest, play
from tests.servers.vm import OFF, Step, Vm

Guests = list[tuple[str, Iterator[Guest]]]


def played(guests: Guests) -> Callable[[Vm], Iterable[Step]]:
    """Return what plays each boot; `guests` says how those of a name go (a pattern), and may be added to at any time."""

    def boot(vm: Vm) -> Iterator[Step]:
        guest = next((next(those) for pattern, those in reversed(guests) if fnmatchcase(vm.name, pattern)), OK)
        facts = read_facts(vm.metadata.get(FACTS, ""))
        outcome = play(guest, name=vm.name, script=vm.metadata.get(SCRIPT, ""), facts=facts)
        yield outcome.console
        if not outcome.is_on:
            yield OFF

    return boot


def always(guest: Guest) -> Iterator[Guest]:
    """Let every boot go so."""
    return itertools.repeat(guest)
