"""What the scripted machines behind a test server do: what tests/fake_guest.py plays, told by the cloud's own metadata."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase

from clouds.aws import user_data
from clouds.gcp.instances import FACTS, SCRIPT, read_facts, write_facts
from tests.fake_guest import OK, Guest, marker, play, read_receiver
from tests.fake_sftp import HOST_KEY, Store
from tests.servers.vm import OFF, Step, Vm

LOOK_S = 0.05
"""How often a builder looks whether it has received everything, in seconds of the server's clock."""
Guests = list[tuple[str, Iterator[Guest]]]


def played(guests: Guests, store: Store | None = None) -> Callable[[Vm], Iterable[Step]]:
    """Return what plays each boot; `guests` says how those of a name go (a pattern), and may be added to at any time.

    A builder that is to receive its script does so through the `store` of tests/fake_sftp.py.
    """

    def boot(vm: Vm) -> Iterator[Step]:
        guest = next((next(those) for pattern, those in reversed(guests) if fnmatchcase(vm.name, pattern)), OK)
        facts, script = read_facts(vm.metadata.get(FACTS, "")), vm.metadata.get(SCRIPT, "")
        if store and (received := read_receiver(script)):
            store.listen(vm.name, list(received.names))
            while not store.has_everything(vm.name):
                yield marker(received.nonce, f"fact host-key {HOST_KEY}") + "\r\n"
                yield LOOK_S
            script = received.run(store.close(vm.name))
        outcome = play(guest, name=vm.name, script=script, facts=facts)
        yield outcome.console
        if not outcome.is_on:
            yield OFF

    return boot


def played_on_ec2(guests: Guests, store: Store | None = None) -> Callable[[Vm], Iterable[Step]]:
    """Return the same for machines that read script and facts from user data."""
    boot = played(guests, store)

    def boot_on_ec2(vm: Vm) -> Iterable[Step]:
        data = user_data.from_base64(vm.metadata.get("user-data", ""))
        told = {SCRIPT: user_data.script_of(data), FACTS: write_facts(user_data.facts_of(data))}
        return boot(replace(vm, metadata=told))

    return boot_on_ec2


def always(guest: Guest) -> Iterator[Guest]:
    """Let every boot go so."""
    return itertools.repeat(guest)
