"""Find machines: by their tags, by their ids where those are known, or by the token of a request that was not answered."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from clouds.aws import instances, naming
from clouds.aws.client import Client
from clouds.aws.instances import Instance
from clouds.errors import NotFoundError

FRESH_S = 2.0
"""For how long what was read of a machine tells its address and its labels, so that one look at it is one request."""
LISTED_S = 1800.0
"""For how long the id of an instance that was read serves, also of one that has ended meanwhile: EC2 lists that for about an hour
(docs.aws.amazon.com/AWSEC2/latest/UserGuide/terminating-instances.html)."""


@dataclass(slots=True)
class Lookup:
    """What is known of the machines of an account in a region. `unanswered` maps names to the ClientTokens of such requests."""

    client: Client
    unanswered: dict[str, str] = field(default_factory=dict)
    _ids: dict[str, str] = field(default_factory=dict)
    _seen: dict[str, tuple[float, Instance]] = field(default_factory=dict)
    _absent: dict[str, float] = field(default_factory=dict)

    def know(self, name: str, instance_id: str) -> None:
        """Remember which instance a machine is."""
        self._ids[name] = instance_id
        self._seen.pop(name, None)

    def forget(self, name: str) -> None:
        """Forget what a machine was like: it changes now."""
        self._seen.pop(name, None)

    def get(self, name: str) -> Instance:
        """Return the instance of a machine; of several, the oldest. NotFoundError: there is none."""
        if name in self._ids and (found := self.by_id(self._ids[name])) and instances.phase(found) in instances.LIVE:
            return self.see(found)
        found = min(self.named(name, instances.LIVE), key=instances.age_key, default=None)
        if found is None:
            self._seen.pop(name, None)
            self._absent[name] = time.monotonic()
            raise NotFoundError(f"machine {name}: not found on aws", next_step="See: ./inv machines")
        return self.see(found)

    def was_free(self, name: str) -> bool:
        """Return whether no machine had a name a moment ago."""
        return name in self._absent and time.monotonic() - self._absent[name] < FRESH_S

    def recall(self, name: str) -> Instance | None:
        """Return an instance as this process has read it, for a request that names it by its id; None: look it up."""
        read_at, instance = self._seen.get(name, (0.0, None))
        is_known = instance and time.monotonic() - read_at < LISTED_S and instances.phase(instance) in instances.LIVE
        return instance if is_known else None

    def same(self, name: str) -> Instance:
        """Return the instance that a machine was when it was looked at last. NotFoundError: it has ended, or there was none.

        For removals: whoever looked has seen whose it is, and another instance may have the name too.
        """
        known = self._ids.get(name)
        found = self.get(name)
        if known and instances.id_of(found) != known:
            self.know(name, known)
            raise NotFoundError(f"machine {name}: it has ended", next_step="See: ./inv machines")
        return found

    def ended(self, name: str) -> Instance | None:
        """Return the instance that a machine was when it was looked at last, as EC2 still shows it; None: unknown."""
        return self.by_id(self._ids[name]) if name in self._ids else None

    def last(self, name: str) -> Instance:
        """Return the instance of a machine, as it was read before; also of one that has ended, whose console is still there.

        NotFoundError: not found. Its id and its start count here, which only this process changes while it watches the console.
        """
        if name in self._seen:
            return self._seen[name][1]
        if name in self._ids and (found := self.by_id(self._ids[name])):
            return self.see(found)
        named = self.named(name, (*instances.LIVE, "terminated"))
        living = [one for one in named if instances.phase(one) != "terminated"]
        if not named:
            raise NotFoundError(f"machine {name}: not found on aws", next_step="See: ./inv machines")
        return self.see(min(living, key=instances.age_key) if living else max(named, key=instances.age_key))

    def glance(self, name: str) -> Instance:
        """Return an instance as it was read a moment ago, or as it is now. NotFoundError: there is none."""
        read_at, instance = self._seen.get(name, (0.0, None))
        if instance and time.monotonic() - read_at < FRESH_S and instances.phase(instance) in instances.LIVE:
            return instance
        return self.get(name)

    def require(self, name: str, instance_id: str) -> Instance:
        """Return an instance that is there. NotFoundError: it has ended."""
        found = self.by_id(instance_id)
        if found is None or instances.phase(found) in ("shutting-down", "terminated"):
            reason = instances.reason(found).get("Message", "it is gone") if found else "it is gone"
            raise NotFoundError(f"machine {name}: it has ended: {reason}", next_step="See: ./inv machines")
        return self.see(found)

    def by_id(self, instance_id: str) -> Instance | None:
        """Return an instance in any state, or None where EC2 does not find it (yet)."""
        try:
            return next(self._describe("machine", InstanceIds=[instance_id]), None)
        except NotFoundError:
            return None

    def named(self, name: str, phases: Iterable[str]) -> list[Instance]:
        """Return our instances of a name in one of these states, also one that was asked for here without an answer."""
        filters = naming.tag_filters({naming.NAME: name}, instance_state_name=tuple(phases))
        found = [one for one in self._describe(f"machine {name}", Filters=filters) if instances.name_of(one) == name]
        if not found and name in self.unanswered:
            by_token = [
                {"Name": "client-token", "Values": [self.unanswered[name]]},
                {"Name": "instance-state-name", "Values": list(phases)},
            ]
            found = list(self._describe(f"machine {name}", Filters=by_token))
        return found

    def _describe(self, what: str, **wanted: Any) -> Iterator[Instance]:
        return (
            instance
            for reservation in self.client.items(what, "describe_instances", "Reservations", **wanted)
            for instance in reservation["Instances"]
        )

    def see(self, instance: Instance) -> Instance:
        """Remember what an instance is like, and return it."""
        name = instances.name_of(instance)
        self._ids[name] = instances.id_of(instance)
        self._seen[name] = (time.monotonic(), instance)
        return instance

    def all(self, labels: Mapping[str, str]) -> list[Instance]:
        """Return the instances that carry all these labels."""
        filters = naming.tag_filters(labels, instance_state_name=instances.LIVE)
        found = [one for one in self._describe("machines", Filters=filters) if labels.items() <= naming.from_tags(one).items()]
        return [self.see(one) for one in sorted(found, key=instances.age_key, reverse=True)]  # of one name, the oldest counts
